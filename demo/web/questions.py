"""Questions to one stream of a tab, by the numbers that the engine gives them."""


class Questions:
    """Questions of one stream, and which are answered. Methods belong to the event loop.

    name: of the stream, first part of the ids that the page knows. The engine may answer before its number has come
    back to us: such records are kept until the question is added, so that an answer stands under its own question.
    """

    def __init__(self, name: str):
        self.name = name
        self.asked: dict[int, tuple[float, str]] = {}
        self._answered: set[int] = set()
        self._early: dict[int, list[dict]] = {}

    def add(self, number: int, asked_s: float, question: str) -> list[dict]:
        """Add a question that the engine has taken; returns the records about it that came before."""
        self.asked[number] = (asked_s, question)
        return self._early.pop(number, [])

    def take(self, record: dict) -> bool:
        """Whether a record's question was added; else the record is kept for `add`."""
        number = record["id"]
        if number not in self.asked:
            self._early.setdefault(number, []).append(record)
            return False
        if record["type"] == "answer":
            self._answered.add(number)
        return True

    def page_id(self, number: int) -> str:
        """Id of a question on the page."""
        return f"{self.name}.{number}"

    @property
    def unanswered(self) -> list[tuple[float, str]]:
        """(asked_s, question) of those that still wait."""
        return [asked for number, asked in self.asked.items() if number not in self._answered]
