"""A storage that says nothing is left behind once others have answered that have what it has.

They are asked when it is found silent: what they have said before proves nothing.  Who is cut off
itself notices one silence after the other, and would outdate the first at once; others may receive
such a table, as links may be cut in one direction only, and nobody could go on without whoever is
readable in it.
"""
from ..cluster.context import Context
from ..protocol.packets import Ping


class Suspicion(Context):

    __slots__ = '_suspect', '_speaking'

    def __init__(self, master, suspect):
        self._suspect = suspect
        self._speaking = set()
        for peer in list(master.members.storages.values()):
            if peer is not suspect:
                master.ask(peer, Ping(), self)

    def answered(self, master, peer, answer):
        self._speaking.add(peer.id)
        suspect = self._suspect
        if suspect.silent and master.members.joined.get(suspect.id) is suspect and (
                master.can_leave_behind(suspect, self._speaking)):
            master.part(suspect, 'it says nothing, and others have what it has')
