"""A trained model behind HTTP: images in, label maps out; what `jaxseg serve` and `jaxseg demo` run.

    service = Service(jaxseg.Predictor(jaxseg.load("runs/camvid")), limits=Limits(pixels=10**6))
    serve(service, port=8000)

`make_app` returns the ASGI application of a service, for a server of your own. It needs `pip install 'jaxseg[serve]'`.
"""

from jaxseg.serve.app import make_app
from jaxseg.serve.batcher import Batcher
from jaxseg.serve.server import serve
from jaxseg.serve.service import Service
from jaxseg.serve.uploads import Limits

__all__ = ["Batcher", "Limits", "Service", "make_app", "serve"]
