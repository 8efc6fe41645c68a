"""The resource of a delivery over OTLP: whose spans and metrics they are, and of which process. Needs the extra `otel`.

A receiver takes totals under one `service.instance.id` for one sequence: two processes with the same one overwrite each
other's. The SDK draws one for each process, also for a forked child.
"""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, Resource

from agentkit_reporting.tracing.export_resource import given_attributes, service_attributes

__all__ = ["delivery_resource"]


class _GivenInstance(Resource):
    """A resource that keeps the instance that a host gave, which the SDK overwrites in a forked child."""

    def merge(self, other: Resource) -> Resource:
        """Return both together; see Resource."""
        merged = super().merge(other)
        instance = self.attributes[SERVICE_INSTANCE_ID]
        return _GivenInstance({**merged.attributes, SERVICE_INSTANCE_ID: instance}, merged.schema_url)


def delivery_resource(service_name: str | None, given: Mapping[str, str] | None) -> Resource:
    """Return the resource of this process; what is not given is as the environment says (OTEL_RESOURCE_ATTRIBUTES)."""
    made = Resource.create({**(given or {}), **service_attributes(service_name, given)})
    if SERVICE_INSTANCE_ID in {**given_attributes(), **(given or {})}:
        return _GivenInstance(made.attributes, made.schema_url)
    return made
