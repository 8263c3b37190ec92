"""Install dependency groups of pyproject.toml (PEP 735) into the running environment: pip before 25.1 cannot.

    python tests/install_groups.py test check
"""

import pathlib
import subprocess
import sys
import tomllib

root = pathlib.Path(__file__).resolve().parent.parent
groups = tomllib.loads((root / "pyproject.toml").read_text())["dependency-groups"]
wanted = [requirement for name in sys.argv[1:] for requirement in groups[name]]
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]))
