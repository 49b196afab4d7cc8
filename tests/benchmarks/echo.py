"""The SignalR server alone: a hub that sends each caller's audio back as `AudioReceived`, on the direct road.

Run as `python echo.py PORT`; prints the port.
"""

import asyncio
import socket
import sys

import uvicorn

from voisnap_mock.signalr import Hub, HubContext, HubEndpoint, hub_method
from voisnap_mock.signalr.uvicorn_ws import websocket_class

AGENT_AUDIO = bytes(range(240)) * 4


class Echo(Hub):
    @hub_method(name="SendAudioAsync")
    def send_audio(self, connection: HubContext, audio: bytes) -> None:
        connection.send("AudioReceived", AGENT_AUDIO)


async def main(port: int) -> None:
    endpoint = HubEndpoint(Echo(), path="/hubs/voice")
    listener = socket.create_server(("127.0.0.1", port), backlog=2048)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(endpoint, ws=websocket_class([endpoint]), log_level="critical", lifespan="off")
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    try:
        from uvloop import run
    except ImportError:
        run = asyncio.run
    run(main(int(sys.argv[1])))
