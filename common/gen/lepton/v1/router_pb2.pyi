from lepton.v1 import inference_pb2 as _inference_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExplainRouteRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: _inference_pb2.GenerateRequest
    def __init__(self, request: _Optional[_Union[_inference_pb2.GenerateRequest, _Mapping]] = ...) -> None: ...

class ExplainRouteResponse(_message.Message):
    __slots__ = ("policy", "candidates", "best_worker_id", "stale_s", "model", "revision")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    BEST_WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    STALE_S_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    policy: str
    candidates: _containers.RepeatedCompositeFieldContainer[RouteCandidate]
    best_worker_id: str
    stale_s: float
    model: str
    revision: str
    def __init__(self, policy: _Optional[str] = ..., candidates: _Optional[_Iterable[_Union[RouteCandidate, _Mapping]]] = ..., best_worker_id: _Optional[str] = ..., stale_s: _Optional[float] = ..., model: _Optional[str] = ..., revision: _Optional[str] = ...) -> None: ...

class RouteCandidate(_message.Message):
    __slots__ = ("worker_id", "address", "revision", "state", "filtered_by", "scores", "total")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FILTERED_BY_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    address: str
    revision: str
    state: str
    filtered_by: str
    scores: _containers.RepeatedCompositeFieldContainer[RouteScore]
    total: float
    def __init__(self, worker_id: _Optional[str] = ..., address: _Optional[str] = ..., revision: _Optional[str] = ..., state: _Optional[str] = ..., filtered_by: _Optional[str] = ..., scores: _Optional[_Iterable[_Union[RouteScore, _Mapping]]] = ..., total: _Optional[float] = ...) -> None: ...

class RouteScore(_message.Message):
    __slots__ = ("scorer", "score", "weight", "detail")
    SCORER_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    scorer: str
    score: float
    weight: float
    detail: str
    def __init__(self, scorer: _Optional[str] = ..., score: _Optional[float] = ..., weight: _Optional[float] = ..., detail: _Optional[str] = ...) -> None: ...
