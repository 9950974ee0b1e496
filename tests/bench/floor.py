"""The floor: aiohttp that reads the body and answers. Nobody on aiohttp can be faster by the usual way."""

import sys

import uvloop
from aiohttp import web


async def callback(request: web.Request) -> web.Response:
    """Answer OK whatever comes."""
    await request.read()
    return web.Response(body=b'{"result":0,"errmsg":"OK"}', content_type="application/json")


app = web.Application(client_max_size=4 << 20)
app.router.add_post("/sms/callback", callback)
uvloop.install()
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
