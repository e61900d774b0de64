"""One page to look at: a single file of HTML with tables, curves and sources of runs, which needs no network.

`runs_page` makes it of the rows of comparisons, `write_page` writes it. `rows` makes rows of run files. `series`,
`tables`, `profile`, `cautions`, `commands` and the charts (`vega` and what is built on it) make the parts, `content`
puts them together, `html` fills the templates.
"""

from noisylearn.report.page.content import runs_page
from noisylearn.report.page.html import check_page, write_page
from noisylearn.report.page.rows import rows_of

__all__ = ["check_page", "rows_of", "runs_page", "write_page"]
