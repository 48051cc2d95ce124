"""Uses the service through a client that openapi-python-client made of its description."""

import json
import sys

from lastseen_client import Client
from lastseen_client.api.activity import touch_session
from lastseen_client.api.sessions import get_session, list_sessions, open_session
from lastseen_client.models.list_sessions_sort import ListSessionsSort
from lastseen_client.models.open_request import OpenRequest
from lastseen_client.models.touch_request import TouchRequest
from lastseen_client.models.touch_session_wait import TouchSessionWait

KEY = "telegram:42"
client = Client(base_url=sys.argv[1])
attributes = {"owner": "ana", "deep": {"n": [1]}}
session = open_session.sync(client=client, body=OpenRequest.from_dict({"key": KEY, "attributes": attributes}))
body = TouchRequest.from_dict({"attributes": {"mood": "fine"}, "message": {"text": "hello"}})
touch_session.sync(KEY, client=client, body=body)
read = get_session.sync(KEY, client=client)
accepted = touch_session.sync_detailed(KEY, client=client, body=TouchRequest(), wait=TouchSessionWait.APPENDED)
page = list_sessions.sync(client=client, owner="ana", sort=ListSessionsSort.CREATED)
refused = list_sessions.sync(client=client, owner="")
sys.stdout.write(
    json.dumps(
        {
            "owner": session.attributes["owner"],
            "offset": session.position[1],
            "accepted": int(accepted.status_code),
            "mood": read.attributes["mood"],
            "version": read.version,
            "listed": [each.key for each in page.sessions],
            "refused": refused.status,
        }
    )
)
