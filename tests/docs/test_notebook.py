"""The notebook in docs/ runs from its first cell to its last, in a kernel of its own."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_notebook_runs_and_shows_what_it_says(tmp_path):
    notebook = nbformat.read(DOCS / "python.ipynb", as_version=4)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            shown |= output.get("data", {})
    text = "\n".join(
        output.get("text", "") or output.get("data", {}).get("text/plain", "")
        for cell in notebook.cells
        for output in cell.get("outputs", ())
    )
    assert "Volume(28 × 512 × 512" in text
    assert "data:image/jpeg;base64," in shown["text/html"]
    assert "True" in text.splitlines()  # the array's mask equals the volume's
    assert "remedy: check the path" in text
    assert "report.html" in text
