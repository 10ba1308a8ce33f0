"""The error that every part of both packages raises for what its user can put right, and what is
said in it of others' errors.
"""


class UserError(ValueError):
    """Bad input; the message is one line: what is wrong and what to do about it.

    It knows no front end. Settings stand in backquotes, as Python names them (`crop_size`); the
    commands print them as their options (--crop-size).
    """


def in_one_line(error: Exception) -> str:
    """What a library's exception says, in one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]
