"""Every way a command can end badly: one class per exit code, each message with its remedy.

Exit codes are part of the command line's contract: 0 good, 1 a finding, 2 usage or bad input,
3 evidence not clean, 4 verification failed, 5 environment unfit, 6 the measured command failed,
130 interrupted. `cli.main` is the only place that turns an error into an exit code.
"""

from typing import ClassVar


class AssayError(Exception):
    """Base of all errors that are reported to a person without a traceback.

    `place` says where (file, JSON pointer, line), `hint` what to do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, place: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.place}: {self.message}" if self.place else self.message
        return f"{text}\n  hint: {self.hint}" if self.hint else text


class FindingError(AssayError):
    """A difference or a failed gate."""

    exit_code = 1


class InputError(AssayError):
    """Bad usage or bad input: nothing was started, nothing was written."""

    exit_code = 2


class RunNameTakenError(InputError):
    """A run of that name is not over on this host."""


class EvidenceError(AssayError):
    """The run was archived, but its evidence is not clean."""

    exit_code = 3


class VerificationError(AssayError):
    """An archive, image or lock does not hold what it claims.

    `code` is the stable identity of the failure (contracts §1.7).
    """

    exit_code = 4

    def __init__(self, code: str, message: str, *, place: str = "", hint: str = "") -> None:
        super().__init__(f"{code}: {message}", place=place, hint=hint)
        self.code = code


class EnvironmentUnfitError(AssayError):
    """This host cannot do it; `problems` are (what is missing, remedy) pairs."""

    exit_code = 5

    def __init__(
        self,
        message: str,
        *,
        place: str = "",
        hint: str = "",
        problems: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message, place=place, hint=hint)
        self.problems = problems

    def __str__(self) -> str:
        lines = [super().__str__()]
        lines += [f"  {what}: {remedy}" for what, remedy in self.problems]
        return "\n".join(lines)


class CommandFailedError(AssayError):
    """The measured command itself failed; its archive was written."""

    exit_code = 6
