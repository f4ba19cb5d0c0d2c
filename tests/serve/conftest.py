"""What needs the server's packages (pip install 'jaxseg[serve]') or a browser is collected where they are installed."""

import importlib.util

from tests.browser import CHROMIUM

served = importlib.util.find_spec("uvicorn") is not None
collect_ignore = ([] if served else ["test_server.py"]) + ([] if served and CHROMIUM else ["test_page.py"])
