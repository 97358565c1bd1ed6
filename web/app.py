"""The web application: one blueprint per resource; a view parses, calls one function of the engine, renders."""

from __future__ import annotations

from functools import partial

from apiflask import APIFlask

from engine.context import Engine
from web import documentation
from web.admin_audit import admin_audit
from web.admin_console import admin_console
from web.admin_coupons import admin_coupons
from web.admin_demo import admin_demo
from web.admin_products import admin_products
from web.admin_users import admin_users
from web.auth import count_call, identify_caller, refuse_paths_of_others
from web.balance import balance
from web.console_page import console_page
from web.coupons import coupons
from web.current import EXTENSION, Serving
from web.demo_rush import Demo
from web.fields import read_path_ids, refuse_oversize
from web.limits import Limits
from web.metrics import metrics
from web.operations import operations
from web.orders import orders
from web.popular import popular
from web.problems import register_problems
from web.products import products
from web.requests import requests
from web.strict_json import MAX_BODY_BYTES, StrictJSONProvider, StrictRequest
from web.tokens import Authenticator

BLUEPRINTS = (
    balance,
    products,
    popular,
    coupons,
    orders,
    requests,
    admin_users,
    admin_products,
    admin_coupons,
    admin_audit,
    admin_console,
    admin_demo,
    operations,
    metrics,
    console_page,
)


class Application(APIFlask):
    """APIFlask with strict JSON."""

    request_class = StrictRequest
    json_provider_class = StrictJSONProvider


def create_app(
    engine: Engine,
    authenticator: Authenticator | None = None,
    limits: Limits | None = None,
    demo: Demo | None = None,
) -> APIFlask:
    """The application of one process, on that process' engine.

    Without an authenticator everybody may do everything, without limits as often as they like; with a demo, everybody
    may break things on purpose.
    """
    app = Application(
        "web",
        title="Seonchak",
        version="1",
        docs_path=None,  # APIFlask's pages load from a CDN; ours is in operations.py
        static_folder=None,  # type: ignore[arg-type] # console_page.py serves the files
    )
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,
        DESCRIPTION="First come, first served: coupons decided at once, durable moments later. Sentences for people "
        "are Korean, or English where `Accept-Language` asks for it; codes never change.",
        SERVERS=[{"url": "/"}],  # APIFlask would keep the Host header of whoever asked first
        VALIDATION_ERROR_STATUS_CODE=400,
        AUTO_VALIDATION_ERROR_RESPONSE=False,
        AUTO_404_RESPONSE=False,
        AUTO_OPERATION_ID=True,
    )
    # A path is served as it is written: no redirect from //healthz to /healthz, which would lose a POST's body.
    app.url_map.merge_slashes = False
    app.extensions[EXTENSION] = Serving(engine, authenticator=authenticator, limits=limits, demo=demo)
    for look in (refuse_oversize, identify_caller, count_call, read_path_ids, refuse_paths_of_others):  # in this order
        app.url_value_preprocessor(look)
    app.spec_processor(
        partial(documentation.complete, authenticated=authenticator is not None, limited=limits is not None)
    )
    register_problems(app)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    return app
