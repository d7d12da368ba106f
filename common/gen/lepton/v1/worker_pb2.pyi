from lepton.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WorkerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WORKER_STATE_UNSPECIFIED: _ClassVar[WorkerState]
    WORKER_STATE_SERVING: _ClassVar[WorkerState]
    WORKER_STATE_DRAINING: _ClassVar[WorkerState]
WORKER_STATE_UNSPECIFIED: WorkerState
WORKER_STATE_SERVING: WorkerState
WORKER_STATE_DRAINING: WorkerState

class WatchLoadRequest(_message.Message):
    __slots__ = ("router_id", "interval_ms", "prefixes")
    ROUTER_ID_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    PREFIXES_FIELD_NUMBER: _ClassVar[int]
    router_id: str
    interval_ms: int
    prefixes: bool
    def __init__(self, router_id: _Optional[str] = ..., interval_ms: _Optional[int] = ..., prefixes: _Optional[bool] = ...) -> None: ...

class WatchLoadResponse(_message.Message):
    __slots__ = ("state", "step", "step_ends_in_ms", "running", "waiting", "rows_max", "waiting_tokens", "kv_usage", "in_flight_of_router", "incarnation", "step_ms", "prefill_tokens_per_s", "decode_tokens_per_s", "decode_rows", "tickets", "prefixes")
    STATE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEP_ENDS_IN_MS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    ROWS_MAX_FIELD_NUMBER: _ClassVar[int]
    WAITING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    KV_USAGE_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_OF_ROUTER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    STEP_MS_FIELD_NUMBER: _ClassVar[int]
    PREFILL_TOKENS_PER_S_FIELD_NUMBER: _ClassVar[int]
    DECODE_TOKENS_PER_S_FIELD_NUMBER: _ClassVar[int]
    DECODE_ROWS_FIELD_NUMBER: _ClassVar[int]
    TICKETS_FIELD_NUMBER: _ClassVar[int]
    PREFIXES_FIELD_NUMBER: _ClassVar[int]
    state: WorkerState
    step: int
    step_ends_in_ms: int
    running: int
    waiting: int
    rows_max: int
    waiting_tokens: int
    kv_usage: float
    in_flight_of_router: int
    incarnation: str
    step_ms: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    decode_rows: int
    tickets: TicketCounts
    prefixes: PrefixNews
    def __init__(self, state: _Optional[_Union[WorkerState, str]] = ..., step: _Optional[int] = ..., step_ends_in_ms: _Optional[int] = ..., running: _Optional[int] = ..., waiting: _Optional[int] = ..., rows_max: _Optional[int] = ..., waiting_tokens: _Optional[int] = ..., kv_usage: _Optional[float] = ..., in_flight_of_router: _Optional[int] = ..., incarnation: _Optional[str] = ..., step_ms: _Optional[float] = ..., prefill_tokens_per_s: _Optional[float] = ..., decode_tokens_per_s: _Optional[float] = ..., decode_rows: _Optional[int] = ..., tickets: _Optional[_Union[TicketCounts, _Mapping]] = ..., prefixes: _Optional[_Union[PrefixNews, _Mapping]] = ...) -> None: ...

class PrefixNews(_message.Message):
    __slots__ = ("is_whole", "held", "gone")
    IS_WHOLE_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    is_whole: bool
    held: _containers.RepeatedScalarFieldContainer[int]
    gone: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, is_whole: _Optional[bool] = ..., held: _Optional[_Iterable[int]] = ..., gone: _Optional[_Iterable[int]] = ...) -> None: ...

class TicketCounts(_message.Message):
    __slots__ = ("taken", "ended", "completed", "proved")
    TAKEN_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    PROVED_FIELD_NUMBER: _ClassVar[int]
    taken: int
    ended: int
    completed: int
    proved: int
    def __init__(self, taken: _Optional[int] = ..., ended: _Optional[int] = ..., completed: _Optional[int] = ..., proved: _Optional[int] = ...) -> None: ...

class ProbeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ProbeResponse(_message.Message):
    __slots__ = ("passed", "duration_us")
    PASSED_FIELD_NUMBER: _ClassVar[int]
    DURATION_US_FIELD_NUMBER: _ClassVar[int]
    passed: bool
    duration_us: int
    def __init__(self, passed: _Optional[bool] = ..., duration_us: _Optional[int] = ...) -> None: ...

class GetInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetInfoResponse(_message.Message):
    __slots__ = ("worker_id", "incarnation", "model", "fingerprint", "version", "state")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    incarnation: str
    model: _types_pb2.ModelInfo
    fingerprint: str
    version: str
    state: WorkerState
    def __init__(self, worker_id: _Optional[str] = ..., incarnation: _Optional[str] = ..., model: _Optional[_Union[_types_pb2.ModelInfo, _Mapping]] = ..., fingerprint: _Optional[str] = ..., version: _Optional[str] = ..., state: _Optional[_Union[WorkerState, str]] = ...) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ("grace_ms",)
    GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    grace_ms: int
    def __init__(self, grace_ms: _Optional[int] = ...) -> None: ...

class DrainResponse(_message.Message):
    __slots__ = ("num_running",)
    NUM_RUNNING_FIELD_NUMBER: _ClassVar[int]
    num_running: int
    def __init__(self, num_running: _Optional[int] = ...) -> None: ...
