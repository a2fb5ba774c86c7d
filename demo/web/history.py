"""History of a commentary by the video's seconds: what is said anew takes the place of what was said before."""


class CommentaryHistory:
    """Steps (start_s, end_s, text) in the order of the video, and questions (asked_s, question, answer)."""

    def __init__(self):
        self.steps: list[tuple[float, float, str]] = []
        self.questions: list[tuple[float, str, str]] = []

    def add_step(self, start_s: float, end_s: float, text: str) -> None:
        """Add what was said for these seconds; steps that overlap them are forgotten."""
        at = len(self.steps)
        if self.steps and start_s < self.steps[-1][1]:
            self.steps = [step for step in self.steps if step[1] <= start_s or step[0] >= end_s]
            at = sum(step[0] < start_s for step in self.steps)
        self.steps.insert(at, (start_s, end_s, text))

    def add_answer(self, asked_s: float, question: str, answer: str) -> None:
        """Add a question and what was answered."""
        self.questions.append((asked_s, question, answer))
