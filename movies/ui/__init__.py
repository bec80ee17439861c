"""The site: pages made on the server from what the other services answer, and from less if they do not."""

from movies.ui.part import Ui
from movies.ui.plain import Plain

__all__ = ["Plain", "Ui"]
