"""What reporters are told."""

from tokcli.progress import FAILURES_TOLD, FailureNotes, Task


class Listener:
    """Keeps its notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def task(self, label: str, total: int | None, unit: str, done: int = 0) -> Task:
        raise AssertionError("nothing is measured here")


def test_of_many_failures_the_first_are_named_and_then_only_that_there_are_more() -> None:
    listener = Listener()
    notes = FailureNotes(listener, "the file lists them")
    for number in range(1000):
        notes.add(f"item {number}")
    assert listener.notes[:-1] == [f"item {number}" for number in range(FAILURES_TOLD)]
    assert listener.notes[-1] == f"more than {FAILURES_TOLD} items failed; the file lists them"
