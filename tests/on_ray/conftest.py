"""What needs Ray is collected where Ray is installed: pip install 'jaxseg[ray]'."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("ray") else ["test_on_ray.py"]
