"""Send a program's own logging to `oddlog serve`, with the template of every line.

pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http
"""

import logging

from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource

provider = LoggerProvider(resource=Resource.create({"service.name": "checkout"}))
# For a token: OTLPLogExporter(..., headers={"Authorization": "Bearer ..."})
exporter = OTLPLogExporter(endpoint="http://127.0.0.1:8400/v1/logs")
provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
otlp = provider.get_logger("checkout")


class ToOddlog(logging.Handler):
    """Sends each record with its text before the arguments were filled in."""

    def emit(self, record):
        """Send a record."""
        otlp.emit(
            timestamp=int(record.created * 1e9),
            severity_text=record.levelname,
            body=record.getMessage(),
            attributes={"log.record.template": str(record.msg)},
        )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, handlers=[ToOddlog()])
    logging.info("order %s accepted", 4711)
    provider.shutdown()
