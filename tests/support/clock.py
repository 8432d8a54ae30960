"""A clock that moves only when a test sets it forward."""


class Clock:
    """Replaces `time.monotonic`."""

    def __init__(self) -> None:
        self.now = 1000.0  # seconds

    def __call__(self) -> float:
        return self.now
