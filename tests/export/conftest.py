"""What needs onnxruntime, or a browser, is collected where these are installed: see docs/export.md."""

import importlib.util
import os
from pathlib import Path

from tests.browser import CHROMIUM

ONNX = ("onnx", "onnxruntime")
RUNTIME = Path(os.environ.get("ONNXRUNTIME_WEB", "node_modules/onnxruntime-web"))

collect_ignore = []
if any(importlib.util.find_spec(name) is None for name in ONNX):
    collect_ignore += ["test_onnx.py", "test_operations.py", "test_verify.py", "test_ways.py", "test_weights.py"]
    collect_ignore += ["test_web.py"]
elif not CHROMIUM or not RUNTIME.is_dir():
    collect_ignore += ["test_web.py"]
if importlib.util.find_spec("flatbuffers") is None:
    collect_ignore += ["test_stablehlo.py", "test_verify.py", "test_ways.py"]
if any(importlib.util.find_spec(name) is None for name in ("ai_edge_litert", "litert_converter")):
    collect_ignore += ["test_litert.py"]
