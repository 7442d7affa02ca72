"""tier1 in Python: what this course starts from, in the language of the guide it retells.

There is no line of telemetry in it. `opentelemetry-instrument` patches Flask, requests and
pika while they are imported. `../foreign.rs` says how it is started, and why it is here.

It does what tier1 does on the way that the checks call the good one. It has no deadline
for a confirm, and connects to the queue anew for each message: a BlockingConnection may be
used by one thread only.
"""

import logging
import os
import random
import time
import uuid

import flask
import pika
import requests

QUEUE = "signups"
PERSISTENT = 2

AMQP_URL = os.environ["AMQP_URL"]
TIER2_URL = os.environ["TIER2_URL"]
SAAS_URL = os.environ["SAAS_URL"]
HTTP_TIMEOUT = int(os.environ.get("HTTP_TIMEOUT_MS", "5000")) / 1000
SLOW_DELAY = int(os.environ.get("SLOW_DELAY_MS", "1500")) / 1000
SLOW_CHANCE = float(os.environ.get("SLOW_CHANCE", "0.05"))

log = logging.getLogger("tier1")
app = flask.Flask("tier1")


class Unusable(Exception):
    """What another service answered can't be used; the text says why."""


def is_slow():
    return random.random() < SLOW_CHANCE


def sometimes_slow():
    if is_slow():
        time.sleep(SLOW_DELAY)


def do_queue(action):
    sometimes_slow()
    body = pure_queue_proc(action)
    connection = pika.BlockingConnection(pika.URLParameters(AMQP_URL))
    try:
        channel = connection.channel()
        channel.queue_declare(QUEUE, durable=True)
        # From here on basic_publish waits for the confirm, and raises what went wrong.
        channel.confirm_delivery()
        channel.basic_publish(
            exchange="",
            routing_key=QUEUE,
            body=body,
            properties=pika.BasicProperties(
                message_id=str(uuid.uuid4()), delivery_mode=PERSISTENT
            ),
            mandatory=True,
        )
    finally:
        connection.close()
    return "do_queue"


def pure_queue_proc(action):
    log.info("telling how well we do at signing members up")
    return f"{action} {time.time():.6f}"


def do_saas():
    sometimes_slow()
    answer = requests.get(f"{SAAS_URL}/api/v2/summary.json", timeout=HTTP_TIMEOUT)
    if not answer.ok:
        raise Unusable(f"saas answered {answer.status_code}")
    log.info("saas was asked: %s", pure_saas_proc(answer))
    return "do_saas"


def pure_saas_proc(answer):
    log.info("counting how much the external service is used")
    return answer.json()["status"]["description"]


def do_tier2(action):
    if action == "slow":
        time.sleep(SLOW_DELAY)
    path = "/error" if action == "error" else "/"
    answer = requests.get(f"{TIER2_URL}{path}", timeout=HTTP_TIMEOUT)
    # The lie: an error of tier2's passes as an answer.
    if not answer.ok and action != "error":
        raise Unusable(f"tier2 answered {answer.status_code}")
    return pure_tier2_proc(answer.text.rstrip())


def pure_tier2_proc(text):
    log.info("working on what tier2 answered")
    return f"{text}-plus-pure-tier2-proc"


def tier1(action):
    queued = do_queue(action)
    log.info("message queued: %s", action)
    asked = do_saas()
    log.info("saas done: %s", action)
    answered = do_tier2(action)
    log.info("tier2 done: %s", action)
    return f"tier 1 - {action} → {queued} → {asked} → {answered}\n"


@app.get("/fast")
def fast():
    return tier1("fast")


@app.get("/slow")
def slow():
    return tier1("slow")


@app.get("/error")
def error():
    return tier1("error")


@app.get("/random")
def either():
    return tier1("slow" if is_slow() else "fast")


@app.get("/healthcheck")
def healthcheck():
    return {"service": "tier1", "status": "ok"}


@app.errorhandler(pika.exceptions.AMQPError)
def no_queue(reason):
    return f"the queue was lost: {reason!r}\n", 503


@app.errorhandler(requests.Timeout)
def too_slow(reason):
    return f"{peer(reason)} did not answer in time\n", 504


@app.errorhandler(requests.RequestException)
def no_answer(reason):
    return f"{peer(reason)} did not answer: {type(reason).__name__}\n", 502


@app.errorhandler(Unusable)
def unusable(reason):
    return f"{reason}\n", 502


def peer(reason):
    url = reason.request.url if reason.request is not None else ""
    return "tier2" if url.startswith(TIER2_URL) else "saas"


if __name__ == "__main__":
    app.run(host=os.environ.get("HOST", "0.0.0.0"), port=int(os.environ["PORT"]))
