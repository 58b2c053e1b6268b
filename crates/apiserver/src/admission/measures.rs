//! What admission counts, under the stock server's names.

use std::time::Duration;

use berth_api::status::ApiError;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::Operation;

/// Which half of admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    /// Objects are changed.
    Admit,
    /// Objects are refused.
    Validate,
}

impl Half {
    fn name(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Validate => "validate",
        }
    }

    /// As the metrics of webhooks name it.
    fn of_webhooks(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Validate => "validating",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Step {
    operation: &'static str,
    rejected: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Controller {
    name: &'static str,
    operation: &'static str,
    rejected: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Webhook {
    name: String,
    operation: &'static str,
    rejected: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Called {
    name: String,
    operation: &'static str,
    rejected: &'static str,
    r#type: &'static str,
    code: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rejection {
    name: String,
    operation: &'static str,
    r#type: &'static str,
    error_type: &'static str,
    rejection_code: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailedOpen {
    name: String,
    r#type: &'static str,
}

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// The stock server's buckets, in seconds.
fn of_own() -> Histogram {
    Histogram::new([0.005, 0.025, 0.1, 0.5, 1.0, 2.5])
}

fn of_webhooks() -> Histogram {
    Histogram::new([0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0])
}

/// The counters.
#[derive(Clone, Debug)]
pub(crate) struct Measures {
    steps: Durations<Step>,
    controllers: Durations<Controller>,
    webhooks: Durations<Webhook>,
    calls: Family<Called, Counter>,
    rejections: Family<Rejection, Gauge>,
    open: Family<FailedOpen, Gauge>,
}

impl Default for Measures {
    fn default() -> Self {
        Self {
            steps: Family::new_with_constructor(of_own as fn() -> Histogram),
            controllers: Family::new_with_constructor(of_own as fn() -> Histogram),
            webhooks: Family::new_with_constructor(of_webhooks as fn() -> Histogram),
            calls: Family::default(),
            rejections: Family::default(),
            open: Family::default(),
        }
    }
}

/// How a webhook's call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It let the request pass.
    Allowed,
    /// It refused it, with a code.
    Refused(u16),
    /// There was no answer of use, and the request goes on.
    FailedOpen,
    /// There was none, and the request does not.
    FailedClosed,
}

impl Measures {
    /// Makes them known.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "apiserver_admission_step_admission_duration_seconds",
            "How long each half of admission took",
            self.steps.clone(),
        );
        registry.register(
            "apiserver_admission_controller_admission_duration_seconds",
            "How long each admission plugin took",
            self.controllers.clone(),
        );
        registry.register(
            "apiserver_admission_webhook_admission_duration_seconds",
            "How long each admission webhook took",
            self.webhooks.clone(),
        );
        registry.register(
            "apiserver_admission_webhook_request",
            "Calls of admission webhooks",
            self.calls.clone(),
        );
        // The stock names do not end as those of counters must in this format.
        registry.register(
            "apiserver_admission_webhook_rejection_count",
            "Requests that admission webhooks refused; it only grows",
            self.rejections.clone(),
        );
        registry.register(
            "apiserver_admission_webhook_fail_open_count",
            "Calls of admission webhooks that failed and were ignored; it only grows",
            self.open.clone(),
        );
    }

    pub(super) fn step<T>(
        &self,
        half: Half,
        operation: Operation,
        result: &Result<T, ApiError>,
        took: Duration,
    ) {
        self.steps
            .get_or_create(&Step {
                operation: operation.name(),
                rejected: truth(result.is_err()),
                r#type: half.name(),
            })
            .observe(took.as_secs_f64());
    }

    pub(super) fn controller<T>(
        &self,
        name: &'static str,
        half: Half,
        operation: Operation,
        result: &Result<T, ApiError>,
        took: Duration,
    ) {
        self.controllers
            .get_or_create(&Controller {
                name,
                operation: operation.name(),
                rejected: truth(result.is_err()),
                r#type: half.name(),
            })
            .observe(took.as_secs_f64());
    }

    pub(super) fn webhook(
        &self,
        name: &str,
        half: Half,
        operation: Operation,
        ended: Ended,
        took: Duration,
    ) {
        let operation = operation.name();
        let (rejected, code) = match ended {
            Ended::Allowed => (false, 200),
            Ended::FailedOpen => (false, 500),
            // It has answered.
            Ended::Refused(_) => (true, 200),
            Ended::FailedClosed => (true, 500),
        };
        let rejected = truth(rejected);
        self.webhooks
            .get_or_create(&Webhook {
                name: name.to_owned(),
                operation,
                rejected,
                r#type: half.name(),
            })
            .observe(took.as_secs_f64());
        self.calls
            .get_or_create(&Called {
                name: name.to_owned(),
                operation,
                rejected,
                r#type: half.name(),
                code,
            })
            .inc();
        let (error_type, rejection_code) = match ended {
            Ended::Allowed => return,
            Ended::Refused(code) => ("no_error", u32::from(code)),
            Ended::FailedClosed => ("calling_webhook_error", 0),
            Ended::FailedOpen => {
                let r#type = half.of_webhooks();
                let name = name.to_owned();
                self.open.get_or_create(&FailedOpen { name, r#type }).inc();
                return;
            }
        };
        self.rejections
            .get_or_create(&Rejection {
                name: name.to_owned(),
                operation,
                r#type: half.of_webhooks(),
                error_type,
                rejection_code,
            })
            .inc();
    }
}

fn truth(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}
