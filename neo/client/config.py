"""`<NEOStorage>` in a configuration file, after `%import neo.client`; see component.xml."""
from ZODB.config import BaseConfig

from .Storage import Storage


class NEOStorage(BaseConfig):

    def open(self, database_name='unnamed', databases=None):
        names = self.config.getSectionAttributes()
        options = {name: getattr(self.config, name) for name in names}
        return Storage(**{name: value for name, value in options.items() if value is not None})
