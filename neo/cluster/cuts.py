"""What truncations have removed (docs/decisions/truncate.md): plain functions of the cuts of a
table, each of which leads from one history to the next."""


def history_of(cuts, first):
    """The history of a cluster that was created with `first`."""
    return cuts[-1].history if cuts else first


def knows(cuts, first, history):
    """Is that the present history, or one of before?"""
    return history == history_of(cuts, first) or any(cut.former == history for cut in cuts)


def missed(cuts, history):
    """`(tid, last)`: who is of that history has to remove what is above `tid` and not above `last`
    to be of the present one; None if it is."""
    for number, cut in enumerate(cuts):
        if cut.former == history:
            return min(it.tid for it in cuts[number:]), max(it.last for it in cuts[number:])
    return None


def made(cuts, history):
    """Those after which that history has come."""
    for number, cut in enumerate(cuts):
        if cut.former == history:
            return cuts[:number]
    return cuts


def is_removed(cuts, tid):
    """Was what had this tid removed?"""
    return any(cut.tid < tid <= cut.last for cut in cuts)
