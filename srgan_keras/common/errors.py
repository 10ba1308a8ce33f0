"""The error that every part of both packages raises for what its user can put right."""


class UserError(ValueError):
    """Bad input; the message is one line: what is wrong and what to do about it.

    It knows no front end. Settings stand in backquotes, as Python names them (`crop_size`); the
    commands print them as their options (--crop-size).
    """
