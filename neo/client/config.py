"""`<NEOStorage>` in a configuration file, after `%import neo.client`; see component.xml."""
from ZODB.config import BaseConfig

from ..cluster.addresses import parse_list
from .Storage import Storage


def masters(text):
    """As it is, if it makes sense: so that the line of a mistake is told."""
    parse_list(text)
    return text


class NEOStorage(BaseConfig):

    def open(self, database_name='unnamed', databases=None):
        names = self.config.getSectionAttributes()
        options = {name: getattr(self.config, name) for name in names}
        return Storage(**{name: value for name, value in options.items() if value is not None})
