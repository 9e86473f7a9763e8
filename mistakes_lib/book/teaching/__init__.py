"""What serves lessons: exercises that check themselves, notebooks for students, slides."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checking": ["Checked", "check"],
        "exercises": ["Exercise", "find_exercise", "find_exercises"],
        "lessons": ["write_lessons"],
        "sets": ["solution_notebook", "student_notebook"],
    },
)
