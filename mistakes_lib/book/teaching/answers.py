"""What each exercise asks for: a stored hash where it is solved by hand, else computed of a run."""

from collections.abc import Callable
from dataclasses import dataclass

from mistakes_lib.book.teaching import computed

__all__ = ["ANSWERS", "Answer"]


@dataclass(frozen=True)
class Answer:
    """What an exercise asks for, and how its answer is checked.

    Attributes:
        asks: what the number is, in words, with its unit.
        hint: what to think of, for somebody whose answer is not right yet.
        tolerance: the largest difference that is right; 0 for whole numbers.
        digest: of the answer, as :func:`~mistakes_lib.book.teaching.checking.digest_of` makes it.
        compute: from a run and parameters to the number, for an exercise without a digest.
        missing: why a run may have no answer.
    """

    asks: str
    hint: str
    tolerance: float = 0
    digest: str = ""
    compute: Callable | None = None
    missing: str = "this run has no answer"


ANSWERS = {
    "ex-softmax-by-hand": Answer(
        asks="the confidence, between 0 and 1",
        hint="Exponentiate the three logits and divide the largest by their sum.",
        tolerance=0.01,
        digest="2ddd881fe3ea42e2",
    ),
    "ex-ece-by-hand": Answer(
        asks="the ECE, between 0 and 1",
        hint="In each bin take the gap of accuracy and confidence, weighed by the bin's share.",
        tolerance=0.005,
        digest="8cb0a6dd79d4e427",
    ),
    "ex-em-step": Answer(
        asks="the new mean of the first component",
        hint="Share each point first: how much of the point at 1 belongs to the first component?",
        tolerance=0.01,
        digest="e7f0a202eb6693e9",
    ),
    "ex-bpd": Answer(
        asks="by how many bits each dimension grows",
        hint="How much wider is each Gaussian, and how much lower its peak?",
        tolerance=0.01,
        digest="c2ae795bb10bd986",
    ),
    "ex-staircase": Answer(
        asks="the number of squares",
        hint="The column of the score 2 is one square high: only the mistake 1 lies below it.",
        tolerance=0,
        digest="06f075b9bd49adac",
    ),
    "ex-auroc-five": Answer(
        asks="the AUROC, between 0 and 1",
        hint="There are six pairs, and one of them is a tie.",
        tolerance=0.01,
        digest="d09c5c6b16e0052d",
    ),
    "ex-conformal-by-hand": Answer(
        asks="the threshold",
        hint="k is a fifth of eleven, rounded down.",
        tolerance=0,
        digest="6c25d5bdfe94456a",
    ),
    "ex-fgsm-by-hand": Answer(
        asks="by how much the loss grows",
        hint="Each pixel moves by ε the way its gradient points; multiply and add.",
        tolerance=0.01,
        digest="e724bc09b629c468",
    ),
    "ex-mahalanobis-by-hand": Answer(
        asks="the score, which is negative",
        hint="Divide each squared difference by its variance; the nearer mean counts.",
        tolerance=0.01,
        digest="446e03154f9ee651",
    ),
    "ex-p-by-hand": Answer(
        asks="the p-value",
        hint="Count the scores up to 2.5, and the new input itself.",
        tolerance=0.005,
        digest="d1623b92f304aa45",
    ),
    "ex-step-by-hand": Answer(
        asks="where the feature is after the step",
        hint="With one component every responsibility is 1; put the numbers into the equation.",
        tolerance=0.01,
        digest="f090cf0b08e9a696",
    ),
    "ex-temperature-by-hand": Answer(
        asks="the confidence, between 0 and 1",
        hint="Divide both logits by T first.",
        tolerance=0.01,
        digest="d830a26d9cb886c2",
    ),
    "ex-how-many": Answer(
        asks="the number of correct predictions",
        hint="k must be at least 1.",
        tolerance=0,
        digest="f19fefc825bdb49d",
    ),
    "ex-confusions": Answer(
        asks="how often the two classes are confused",
        hint="Count pairs of a true and a predicted class, and leave out those that agree.",
        tolerance=0,
        compute=computed.most_frequent_confusion,
    ),
    "ex-threshold": Answer(
        asks="the number of mistakes that remain",
        hint="Count wrong predictions with a confidence of 0.9 or more.",
        tolerance=0,
        compute=computed.mistakes_kept,
    ),
    "ex-usual": Answer(
        asks="the difference of the medians, in nats per dimension",
        hint="Divide both medians by the number of features, and subtract the test features'.",
        tolerance=0.1,
        compute=computed.drawn_above_test,
    ),
    "ex-u-auroc": Answer(
        asks="the share of pairs in the right order",
        hint="Compare each correct score with each mistake's; a tie counts one half.",
        tolerance=0.001,
        compute=computed.auroc_of_two_hundred,
    ),
    "ex-monotone": Answer(
        asks="the statistic z",
        hint="What does the test use of the scores besides their order?",
        tolerance=0.01,
        compute=computed.z,
    ),
    "ex-price": Answer(
        asks="the share of correct predictions that are flagged",
        hint="The threshold is the 90 % quantile of the mistakes' scores.",
        tolerance=0.01,
        compute=computed.price_of_nine_in_ten,
    ),
    "ex-sum": Answer(
        asks="the AUROC of the sum",
        hint="Subtract the validation mean and divide by the validation deviation, for each score.",
        tolerance=0.005,
        compute=computed.auroc_of_the_sum,
    ),
    "ex-train-mistakes": Answer(
        asks="the AUROC on training images",
        hint="Score the training features with the same mixture.",
        tolerance=0.005,
        compute=computed.auroc_of_training_mistakes,
        missing="this run has no training mistakes to detect",
    ),
    "ex-successful": Answer(
        asks="the AUROC for BIM",
        hint="Keep all clean images, and of the attacked ones those that the network gets wrong.",
        tolerance=0.005,
        compute=computed.auroc_of_successful_attacks,
        missing="no attack of this run fools the network",
    ),
    "ex-fewer-components": Answer(
        asks="the AUROC for BIM",
        hint="Fit a mixture with n_components // 10 components, from the same seed.",
        tolerance=0.02,
        compute=computed.auroc_with_a_tenth,
    ),
    "ex-mean": Answer(
        asks="the AUROC for Gaussian noise",
        hint="The score is minus the distance of the length to its validation mean.",
        tolerance=0.005,
        compute=computed.auroc_of_the_length,
    ),
    "ex-components-ood": Answer(
        asks="the AUROC for Gaussian noise",
        hint="Fit a mixture with n_components // 10 components, from the same seed.",
        tolerance=0.02,
        compute=computed.auroc_of_noise_with_a_tenth,
    ),
    "ex-one-threshold": Answer(
        asks="the share of false alarms",
        hint="Which kind of failure has the highest median score?",
        tolerance=0.01,
        compute=computed.false_alarms_for_half,
    ),
    "ex-nu": Answer(
        asks="the mean distance at ν = 10",
        hint="Take the first 200 validation features, and the Euclidean norm of each one's change.",
        tolerance=0.005,
        compute=computed.distance_moved,
    ),
    "ex-purify-adversarial": Answer(
        asks="the accuracy after purification, between 0 and 1",
        hint="Let the head classify the purified features, and compare with the labels.",
        tolerance=0.005,
        compute=computed.accuracy_after_purification,
    ),
    "ex-temperature": Answer(
        asks="Kendall's τ",
        hint="Compare the confidences of all test images before and after, not of one image.",
        tolerance=0.005,
        compute=computed.order_after_temperature,
    ),
    "ex-temperature-training": Answer(
        asks="the temperature",
        hint="Fit TemperatureScaling to the training features.",
        tolerance=0.01,
        compute=computed.temperature_of_training,
        missing="this run has no training features",
    ),
}
