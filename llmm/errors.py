"""The one exception that stands for "the user can mend this"."""


class UserError(Exception):
    """A fault that the user can mend, told in one line: what was found, what was expected, what to do.

    The command line and every pipeline stage print the message without a traceback and exit with code 1.
    """
