"""What to say of weights that do not fit a module."""


def first_mismatch(error: Exception) -> str:
    """Return the first of the mismatches that `load_state_dict` raised, in a line."""
    reason = str(error).split("\n\t", 1)[-1].split("\n", 1)[0].strip()
    first, comma, rest = reason.partition(', "')
    return f"{first}, and {rest.count(', ') + 1} more" if comma else first
