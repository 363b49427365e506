"""
The configuration: a YAML file with variables, in two dialects, to checked settings (spec/config.md; DESIGN.md, 11).

L{load} is the way in; what it returns are frozen Structs, and what is wrong is a L{ConfigError}.  C{load.py} shows the
steps.  C{settings.py} and C{blocks/} say which keys there are.
"""

from iii.config.errors import ConfigError
from iii.config.load import default_settings, from_text, load
from iii.config.settings import Settings

__all__ = ["ConfigError", "Settings", "default_settings", "from_text", "load"]
