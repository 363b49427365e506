"""Names the plugin to C{twistd}, nothing else.  No C{__init__.py} beside it: the folder joins Twisted's own."""

from twisted.application.service import ServiceMaker

iii = ServiceMaker("iii", "iii.service", "The iii engine, which calls the functions of connected workers.", "iii")
