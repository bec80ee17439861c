"""The page of feedback as nbgrader renders it, with whatever is the same for every learner rendered once."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from jinja2 import BytecodeCache, pass_context
from jinja2.bccache import Bucket
from nbconvert.exporters import HTMLExporter, TemplateExporter
from nbconvert.filters.highlight import Highlight2HTML
from nbconvert.filters.widgetsdatatypefilter import WidgetsDataTypeFilter

#: Cells that are remembered, of those that are the same for many: several assignments of any length.
MANY = 2_000


class _Compiled(BytecodeCache):
    """Compiled templates of this process: compiling them again for every learner costs more than all the rest."""

    def __init__(self) -> None:
        self._known: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Take the template from memory if it is there."""
        if bucket.key in self._known:
            bucket.bytecode_from_string(self._known[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Remember it."""
        self._known[bucket.key] = bucket.bytecode_to_string()


class _Highlighter(Highlight2HTML):
    """Colours code; what it has coloured before it remembers."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._remembered = functools.lru_cache(MANY)(self._coloured)

    def __call__(self, source: str, language: str | None = None, metadata: Any = None) -> str:
        """The code as HTML."""
        return self._remembered(source, language, (metadata or {}).get("magics_language"))

    def _coloured(self, source: str, language: str | None, magics: str | None) -> str:
        return super().__call__(source, language, {"magics_language": magics} if magics else None)


class FeedbackExporter(HTMLExporter):
    """nbconvert's HTML exporter, quick for many notebooks that are nearly the same."""

    _compiled = _Compiled()

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._highlighters: dict[str | None, _Highlighter] = {}
        self._texts: dict[str, str] = {}

    def _create_environment(self) -> Any:
        environment = super()._create_environment()
        environment.bytecode_cache = self._compiled
        return environment

    def page(self, notebook: Any, about: dict[str, Any], path: Path) -> str:
        """The page of one notebook that lies in the folder `path`; `about` is nbgrader's part of the resources."""
        resources = {"metadata": {"name": about["notebook"], "path": str(path)}, "nbgrader": about}
        return self.from_notebook_node(notebook, resources)[0]

    def from_notebook_node(
        self, nb: Any, resources: dict[str, Any] | None = None, **more: Any
    ) -> tuple[Any, dict[str, Any]]:
        """The page as HTMLExporter makes it, without its second reading of the whole page where that finds nothing."""
        if "<img" in str(nb.cells):
            return super().from_notebook_node(nb, resources, **more)
        facts = nb.metadata.get("language_info", {})
        lexer = facts.get("pygments_lexer", facts.get("name"))
        if lexer not in self._highlighters:
            self._highlighters[lexer] = _Highlighter(pygments_lexer=lexer, parent=self)
        resources = self._init_resources(resources)
        shown = WidgetsDataTypeFilter(notebook_metadata=self._nb_metadata, parent=self, resources=resources)
        self.register_filter("highlight_code", self._highlighters[lexer])
        self.register_filter("filter_data_type", shown)
        return TemplateExporter.from_notebook_node(self, nb, resources, **more)

    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        """Text as HTML; what it has rendered before it remembers."""
        if context.get("cell", {}).get("attachments"):
            return super().markdown2html(context, source)
        if source not in self._texts:
            if len(self._texts) >= MANY:
                self._texts.clear()
            self._texts[source] = super().markdown2html(context, source)
        return self._texts[source]
