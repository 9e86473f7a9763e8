"""Which classes of a strange set does the in-distribution set know? By name, chosen by hand.

Tiny ImageNet is the paper's out-of-distribution set for CIFAR. Some of its classes are classes of
CIFAR, or kinds of them: on a tabby a network that knows cats can be right. A class counts as known
if WordNet's noun is the CIFAR class or a kind of it (a tabby is a cat, a pill bottle a bottle), or
if its images show the CIFAR class as their main thing (a groom is a man, a lampshade hangs on a
lamp). What is only near, a cougar beside cats or a gazelle beside deer, does not count.
"""

import numpy as np

__all__ = ["KNOWN_CLASSES", "known_classes", "rows_of_strangers"]

# WordNet id of Tiny ImageNet → (its name, the CIFAR class that it is or shows).
CIFAR10 = {
    "n01855672": ("goose", "bird"),
    "n02002724": ("black stork", "bird"),
    "n02056570": ("king penguin", "bird"),
    "n02058221": ("albatross", "bird"),
    "n02123045": ("tabby", "cat"),
    "n02123394": ("Persian cat", "cat"),
    "n02124075": ("Egyptian cat", "cat"),
    "n02085620": ("Chihuahua", "dog"),
    "n02094433": ("Yorkshire terrier", "dog"),
    "n02099601": ("golden retriever", "dog"),
    "n02099712": ("Labrador retriever", "dog"),
    "n02106662": ("German shepherd", "dog"),
    "n02113799": ("standard poodle", "dog"),
    "n01641577": ("bullfrog", "frog"),
    "n01644900": ("tailed frog", "frog"),
    "n02814533": ("beach wagon", "automobile"),
    "n03100240": ("convertible", "automobile"),
    "n03670208": ("limousine", "automobile"),
    "n04285008": ("sports car", "automobile"),
    "n03977966": ("police van", "automobile"),
    "n03662601": ("lifeboat", "ship"),
    "n03447447": ("gondola", "ship"),
    "n03796401": ("moving van", "truck"),
}

CIFAR100 = {
    "n01443537": ("goldfish", "aquarium_fish"),
    "n02132136": ("brown bear", "bear"),
    "n02206856": ("bee", "bee"),
    "n02165456": ("ladybug", "beetle"),
    "n02823428": ("beer bottle", "bottle"),
    "n03983396": ("pop bottle", "bottle"),
    "n03937543": ("pill bottle", "bottle"),
    "n04311004": ("steel arch bridge", "bridge"),
    "n04366367": ("suspension bridge", "bridge"),
    "n04532670": ("viaduct", "bridge"),
    "n04146614": ("school bus", "bus"),
    "n04487081": ("trolleybus", "bus"),
    "n02279972": ("monarch", "butterfly"),
    "n02281406": ("sulphur butterfly", "butterfly"),
    "n02437312": ("Arabian camel", "camel"),
    "n02403003": ("ox", "cattle"),
    "n04099969": ("rocking chair", "chair"),
    "n02481823": ("chimpanzee", "chimpanzee"),
    "n02233338": ("cockroach", "cockroach"),
    "n01698640": ("American alligator", "crocodile"),
    "n02504458": ("African elephant", "elephant"),
    "n03085013": ("computer keyboard", "keyboard"),
    "n03637318": ("lampshade", "lamp"),
    "n03649909": ("lawn mower", "lawn_mower"),
    "n02129165": ("lion", "lion"),
    "n01983481": ("American lobster", "lobster"),
    "n01984695": ("spiny lobster", "lobster"),
    "n10148035": ("groom", "man"),
    "n09193705": ("alp", "mountain"),
    "n07734744": ("mushroom", "mushroom"),
    "n07747607": ("orange", "orange"),
    "n07579787": ("plate", "plate"),
    "n04008634": ("projectile", "rocket"),
    "n09428293": ("seashore", "sea"),
    "n01944390": ("snail", "snail"),
    "n01742172": ("boa constrictor", "snake"),
    "n01774384": ("black widow", "spider"),
    "n01774750": ("tarantula", "spider"),
    "n07720875": ("bell pepper", "sweet_pepper"),
    "n03201208": ("dining table", "table"),
    "n03179701": ("desk", "table"),
    "n03902125": ("pay-phone", "telephone"),
    "n04465501": ("tractor", "tractor"),
    "n02917067": ("bullet train", "train"),
    "n03393912": ("freight car", "train"),
}

KNOWN_CLASSES = {"cifar10": CIFAR10, "cifar100": CIFAR100}


def known_classes(data_set):
    """Tiny ImageNet's classes that a network trained on a data set knows by another name.

    Args:
        data_set: "cifar10" or "cifar100".

    Returns:
        dict of WordNet id → (name in Tiny ImageNet, class of the data set).

    Raises:
        ValueError: no list is kept for this data set.

    Example:
        >>> known_classes("cifar10")["n02123045"]
        ('tabby', 'cat')
    """
    if data_set not in KNOWN_CLASSES:
        listed = ", ".join(KNOWN_CLASSES)
        raise ValueError(
            f"no overlap of classes is listed for {data_set!r}, only for {listed}: "
            "enter it in mistakes_lib/data/overlap.py"
        )
    return dict(KNOWN_CLASSES[data_set])


def rows_of_strangers(image_set, data_set):
    """The images of a strange set whose class the in-distribution set does not know.

    Args:
        image_set: an :class:`~mistakes_lib.data.image_set.ImageSet` with labels, whose class names
            are WordNet ids, such as "tiny_imagenet".
        data_set: the in-distribution set, see :func:`known_classes`.

    Returns:
        bool (n,): True where the class is unknown to the network.

    Raises:
        ValueError: the set has no labels, its classes are no WordNet ids, or no list is kept.

    Example:
        >>> from mistakes_lib.data import ImageSet
        >>> pixels = np.zeros((2, 3, 4, 4), dtype=np.uint8)
        >>> two = ImageSet(pixels, [0, 1], ("n02123045", "n02132136"), "x", "a tabby and a bear")
        >>> rows_of_strangers(two, "cifar10"), rows_of_strangers(two, "cifar100")
        (array([False,  True]), array([ True, False]))
    """
    known = known_classes(data_set)
    if image_set.labels is None:
        raise ValueError(f"{image_set.name} has no labels, so nobody knows which classes it shows")
    if not all(name.startswith("n") and name[1:].isdigit() for name in image_set.classes):
        raise ValueError(f"the classes of {image_set.name} are no WordNet ids such as n02123045")
    stranger = np.array([name not in known for name in image_set.classes])
    return stranger[image_set.labels]
