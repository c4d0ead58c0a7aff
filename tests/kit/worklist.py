"""A worklist manager over UPS-RS, as PS3.4 CC and PS3.18 11 want it: strict about states.

No manager that could be installed here offers UPS-RS; this one is our own
reading of the standard.
"""

import threading
from contextlib import contextmanager

import uvicorn
from pydicom import Dataset
from pydicom.uid import generate_uid
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kit.servers import wait_until

DONE = ("COMPLETED", "CANCELED")
_FINAL = {
    "COMPLETED": (
        "UnifiedProcedureStepPerformedProcedureSequence",
        (
            "PerformedStationNameCodeSequence",
            "PerformedProcedureStepStartDateTime",
            "PerformedProcedureStepEndDateTime",
            "PerformedWorkitemCodeSequence",
        ),
    ),
    "CANCELED": (
        "ProcedureStepProgressInformationSequence",
        ("ProcedureStepCancellationDateTime", "ProcedureStepDiscontinuationReasonCodeSequence"),
    ),
}


def code(value, scheme="99TEST", meaning="of a test"):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


class Manager:
    """Workitems in memory. `knows_keys`: whether it matches what is asked for; `asks_who`: whether
    a change of state must name who asks."""

    def __init__(self, *, knows_keys=True, asks_who=False):
        self.workitems = {}
        self.transactions = {}
        self.updates = []
        self.knows_keys = knows_keys
        state = "/workitems/{uid}/state/{requester}" if asks_who else "/workitems/{uid}/state"
        self.app = Starlette(
            routes=[
                Route("/rs/workitems", self._search, methods=["GET"]),
                Route("/rs/workitems/{uid}", self._get, methods=["GET"]),
                Route("/rs/workitems/{uid}", self._post, methods=["POST"]),
                Route(f"/rs{state}", self._put, methods=["PUT"]),
            ]
        )
        self.port = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/rs"

    def add(self, *studies, label="AI", priority="MEDIUM", **more):
        """A workitem for the studies; answers its UID."""
        one = Dataset()
        one.SOPInstanceUID = generate_uid()
        one.ProcedureStepState, one.InputReadinessState = "SCHEDULED", "READY"
        one.ScheduledProcedureStepPriority, one.WorklistLabel = priority, label
        one.ScheduledWorkitemCodeSequence = [code("AI-BONE")]
        one.ScheduledStationNameCodeSequence = [code("GPU1")]
        one.InputInformationSequence = [_input(study) for study in studies]
        for keyword, value in more.items():
            setattr(one, keyword, value)
        self.workitems[one.SOPInstanceUID] = one
        return str(one.SOPInstanceUID)

    def state(self, uid):
        return self.workitems[uid].ProcedureStepState

    @contextmanager
    def up(self):
        config = uvicorn.Config(self.app, host="127.0.0.1", port=0, log_config=None)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            wait_until(lambda: server.started, 20, "the worklist")
            self.port = server.servers[0].sockets[0].getsockname()[1]
            yield self
        finally:
            server.should_exit = True
            thread.join()

    async def _search(self, request):
        keys = {k: v for k, v in request.query_params.items() if k[:8].isdigit()}
        found = [w for w in self.workitems.values() if not self.knows_keys or _fits(w, keys)]
        start = int(request.query_params.get("offset", 0))
        page = found[start : start + int(request.query_params.get("limit", 100))]
        if not page:
            return Response(status_code=204)
        short = [{"00080018": w.to_json_dict()["00080018"]} for w in page]
        return JSONResponse(short, media_type="application/dicom+json")

    async def _get(self, request):
        workitem = self.workitems.get(request.path_params["uid"])
        if workitem is None:
            return Response(status_code=404)
        return JSONResponse([workitem.to_json_dict()], media_type="application/dicom+json")

    async def _post(self, request):
        uid = request.path_params["uid"]
        if uid not in self.workitems:
            return Response(status_code=404)
        if self.state(uid) in DONE:
            return Response(status_code=410)
        if request.query_params.get("transaction") != self.transactions.get(uid):
            return Response(status_code=409)
        [update] = map(Dataset.from_json, await request.json())
        assert "ProcedureStepState" not in update  # never by an update (PS3.4 CC.2.6)
        self.updates.append((uid, update))
        self.workitems[uid].update(update)
        return Response(status_code=200)

    async def _put(self, request):
        uid = request.path_params["uid"]
        if uid not in self.workitems:
            return Response(status_code=404)
        [change] = map(Dataset.from_json, await request.json())
        now, wanted = self.state(uid), change.ProcedureStepState
        if wanted == "IN PROGRESS":
            if now != "SCHEDULED":
                return Response(status_code=409)
            self.transactions[uid] = change.TransactionUID
        elif now != "IN PROGRESS" or not self._may_end(uid, change):
            return Response(status_code=409)
        self.workitems[uid].ProcedureStepState = wanted
        return Response(status_code=200)

    def _may_end(self, uid, change):
        """Whether the performer asks, and what the state wants is there (PS3.4 CC.2.5.1.1)."""
        if self.transactions[uid] != change.TransactionUID:
            return False
        state = change.ProcedureStepState
        sequence, keywords = _FINAL[state]
        items = self.workitems[uid].get(sequence) or [Dataset()]
        has_output = state == "CANCELED" or "OutputInformationSequence" in items[0]
        return has_output and all(items[0].get(keyword) for keyword in keywords)


def _input(study):
    item = Dataset()
    item.TypeOfInstances, item.StudyInstanceUID = "DICOM", study
    return item


def _fits(workitem, keys):
    return all(wanted in _values([workitem], key.split(".")) for key, wanted in keys.items())


def _values(items, path):
    tag, *rest = path
    found = [item.get((int(tag[:4], 16), int(tag[4:], 16))) for item in items]
    values = [element.value for element in found if element is not None]
    return _values([i for v in values for i in v], rest) if rest else values
