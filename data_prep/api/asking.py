"""Many questions to one model, several at the same time; replies are yielded in the order in which they arrive."""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from configs.api import ApiConfig
from configs.errors import DataError, RunError
from data_prep.api.client import ApiClient, Endpoint
from data_prep.api.replies import QuestionError, setting_to_change
from data_prep.api.reply import NoReply, Reply, reply_of

CONTINUES = "the same command continues where this one stopped"
Body = Callable[[], bytes]
"""Makes the JSON of a request (`data_prep.api.messages.request_body`); called when it is sent, in a thread."""


class Asker:
    """Sends requests to the model `name`; counts failures in a row over all calls of `ask`."""

    def __init__(self, name: str, config: ApiConfig, endpoint: Endpoint):
        """Nothing is sent yet."""
        self.name, self.config, self.endpoint = name, config, endpoint
        self.failed_in_a_row = 0
        self._stop: RunError | None = None
        self._client: ApiClient | None = None

    def stop(self, error: RunError) -> None:
        """Send no further request; `ask` raises `error` after the replies to those already sent."""
        self._stop = self._stop or error
        if self._client is not None:
            self._client.stopped.set()

    def ask(self, bodies: Iterable[tuple[int, Body]]) -> Iterator[tuple[int, Reply | NoReply]]:
        """(number of the question, its reply), in the order in which replies arrive; `bodies` are made as needed.

        Raises `RunError` if no further question can be answered, after yielding the replies to requests already sent.
        """
        client = self._client = ApiClient(self.config, self.endpoint)
        limit = self.config.concurrency
        rest = iter(bodies)
        running: dict[Future[Reply | NoReply], int] = {}
        pool = ThreadPoolExecutor(max_workers=limit)
        try:
            while True:
                while self._stop is None and len(running) < limit and (following := next(rest, None)) is not None:
                    running[pool.submit(_ask, client, following[1])] = following[0]
                if not running:
                    break
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=lambda future: running[future]):
                    number = running.pop(future)
                    try:
                        reply = future.result()
                    except RunError as error:
                        self.stop(error)
                        continue
                    if self._stop is None or isinstance(reply, Reply):  # a request that the stop ended has not failed
                        yield number, reply  # stored before the next question is sent
                    self._count(reply)
            if self._stop is not None:
                raise self._stop
        finally:
            client.stopped.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _count(self, reply: Reply | NoReply) -> None:
        """Stop if too many questions in a row had no answer."""
        if isinstance(reply, Reply):
            self.failed_in_a_row = 0
            return
        if not reply.sent:
            return
        self.failed_in_a_row += 1
        if self.failed_in_a_row >= self.config.give_up_after:
            change = setting_to_change(reply.reason)
            step = f"the server refuses a field of the request: add {change}" if change else CONTINUES
            self.stop(
                RunError(
                    f"{self.failed_in_a_row} questions in a row had no answer from {self.name} "
                    f"(the last: {reply.reason}); {step}"
                )
            )


def _ask(client: ApiClient, body: Body) -> Reply | NoReply:
    try:
        request = body()
    except DataError as error:
        return NoReply(str(error), sent=False)
    start = time.monotonic()
    try:
        values = client.ask(request)
    except QuestionError as error:
        return NoReply(str(error))
    return reply_of(values, time.monotonic() - start)
