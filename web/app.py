"""The web application: one blueprint per resource; a view parses, calls one function of the engine, renders."""

from __future__ import annotations

from apiflask import APIFlask

from engine.context import Engine
from web import documentation
from web.admin_coupons import admin_coupons
from web.admin_products import admin_products
from web.admin_users import admin_users
from web.balance import balance
from web.coupons import coupons
from web.current import EXTENSION, Serving
from web.fields import read_path_ids
from web.metrics import metrics
from web.operations import operations
from web.orders import orders
from web.popular import popular
from web.problems import register_problems
from web.products import products
from web.requests import requests
from web.strict_json import MAX_BODY_BYTES, StrictJSONProvider, StrictRequest

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
    operations,
    metrics,
)


class Application(APIFlask):
    """APIFlask with strict JSON."""

    request_class = StrictRequest
    json_provider_class = StrictJSONProvider


def create_app(engine: Engine) -> APIFlask:
    """The application of one process, on that process' engine."""
    app = Application(
        "web",
        title="Seonchak",
        version="1",
        docs_path=None,  # APIFlask's pages load from a CDN; ours is in operations.py
        static_folder=None,  # type: ignore[arg-type]
    )
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,
        DESCRIPTION="First come, first served: coupons decided at once, durable moments later.",
        SERVERS=[{"url": "/"}],  # APIFlask would keep the Host header of whoever asked first
        VALIDATION_ERROR_STATUS_CODE=400,
        AUTO_VALIDATION_ERROR_RESPONSE=False,
        AUTO_404_RESPONSE=False,
        AUTO_OPERATION_ID=True,
    )
    # A path is served as it is written: no redirect from //healthz to /healthz, which would lose a POST's body.
    app.url_map.merge_slashes = False
    app.extensions[EXTENSION] = Serving(engine)
    app.url_value_preprocessor(read_path_ids)
    app.spec_processor(documentation.complete)
    register_problems(app)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    return app
