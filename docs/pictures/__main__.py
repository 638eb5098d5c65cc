"""Makes the pictures of the pages again: `python docs/pictures [NAME …]`, by the scripts of this folder."""

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent
wanted, sys.argv[1:] = sys.argv[1:], []
for script in sorted(HERE.glob("*.py")):
    if script.stem != "__main__" and (not wanted or script.stem in wanted):
        runpy.run_path(str(script), run_name="__main__")
