//! Probes and lifecycle hooks.

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::core::v1::{
    Container, ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, PodSpec, Probe,
    SleepAction, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{required, text};
use berth_core::meta;

/// What a probe or a hook does; exactly one of them.
#[derive(Default)]
struct Handler<'h> {
    exec: Option<&'h ExecAction>,
    http: Option<&'h HTTPGetAction>,
    tcp: Option<&'h TCPSocketAction>,
    grpc: Option<&'h GRPCAction>,
    sleep: Option<&'h SleepAction>,
}

/// Probes and lifecycle of a container that may have them.
pub(super) fn all(spec: &PodSpec, c: &Container, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let grace = spec.termination_grace_period_seconds;
    if let Some(lifecycle) = &c.lifecycle {
        let at = at.child("lifecycle");
        for (name, hook) in [
            ("postStart", &lifecycle.post_start),
            ("preStop", &lifecycle.pre_stop),
        ] {
            if let Some(hook) = hook {
                errors.extend(handler(&of_hook(hook), grace, &at.child(name)));
            }
        }
        if let Some(signal) = &lifecycle.stop_signal {
            errors.extend(stop_signal(spec, signal, &at.child("stopSignal")));
        }
    }
    for (name, probe) in [
        ("livenessProbe", &c.liveness_probe),
        ("readinessProbe", &c.readiness_probe),
        ("startupProbe", &c.startup_probe),
    ] {
        let Some(probe) = probe else {
            continue;
        };
        let at = at.child(name);
        errors.extend(common(probe, grace, &at));
        if name == "readinessProbe" {
            if let Some(seconds) = probe.termination_grace_period_seconds {
                errors.push(FieldError::invalid(
                    &at.child("terminationGracePeriodSeconds"),
                    seconds,
                    "must not be set for readinessProbes",
                ));
            }
        } else if probe.success_threshold.unwrap_or(0) != 1 {
            errors.push(FieldError::invalid(
                &at.child("successThreshold"),
                probe.success_threshold,
                "must be 1",
            ));
        }
    }
    errors
}

fn of_hook(hook: &LifecycleHandler) -> Handler<'_> {
    Handler {
        exec: hook.exec.as_ref(),
        http: hook.http_get.as_ref(),
        tcp: hook.tcp_socket.as_ref(),
        sleep: hook.sleep.as_ref(),
        grpc: None,
    }
}

fn common(probe: &Probe, grace: Option<i64>, at: &FieldPath) -> Vec<FieldError> {
    let of_probe = Handler {
        exec: probe.exec.as_ref(),
        http: probe.http_get.as_ref(),
        tcp: probe.tcp_socket.as_ref(),
        grpc: probe.grpc.as_ref(),
        sleep: None,
    };
    let mut errors = handler(&of_probe, grace, at);
    for (name, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        if let Some(value) = value.filter(|v| *v < 0) {
            errors.push(FieldError::invalid(
                &at.child(name),
                value,
                "must be greater than or equal to 0",
            ));
        }
    }
    if let Some(seconds) = probe.termination_grace_period_seconds.filter(|s| *s <= 0) {
        errors.push(FieldError::invalid(
            &at.child("terminationGracePeriodSeconds"),
            seconds,
            "must be greater than 0",
        ));
    }
    errors
}

fn handler(h: &Handler<'_>, grace: Option<i64>, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut first = true;
    // Of several the first is checked, the others are forbidden.
    let mut check = |name: &str, of_this: Option<Vec<FieldError>>| {
        let Some(of_this) = of_this else {
            return;
        };
        if std::mem::take(&mut first) {
            errors.extend(of_this);
        } else {
            errors.push(FieldError::forbidden(
                &at.child(name),
                "may not specify more than 1 handler type",
            ));
        }
    };
    check("exec", h.exec.map(|e| exec(e, &at.child("exec"))));
    check("httpGet", h.http.map(|g| http(g, &at.child("httpGet"))));
    check(
        "tcpSocket",
        h.tcp.map(|t| port(&t.port, &at.child("tcpSocket.port"))),
    );
    check(
        "grpc",
        h.grpc
            .map(|g| port(&IntOrString::Int(g.port), &at.child("grpc.port"))),
    );
    check(
        "sleep",
        h.sleep.map(|s| sleep(s, grace, &at.child("sleep"))),
    );
    if first {
        errors.push(FieldError::required(at, "must specify a handler type"));
    }
    errors
}

fn exec(action: &ExecAction, at: &FieldPath) -> Vec<FieldError> {
    if action.command.as_ref().is_none_or(Vec::is_empty) {
        return vec![FieldError::required(&at.child("command"), "")];
    }
    Vec::new()
}

fn http(action: &HTTPGetAction, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    required(&mut errors, &at.child("path"), text(&action.path));
    errors.extend(port(&action.port, &at.child("port")));
    let scheme = text(&action.scheme);
    if !matches!(scheme, "HTTP" | "HTTPS") {
        errors.push(FieldError::not_supported(
            &at.child("scheme"),
            scheme,
            &["HTTP", "HTTPS"],
        ));
    }
    for header in action.http_headers.iter().flatten() {
        let right = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if header.name.is_empty() || !header.name.bytes().all(right) {
            errors.push(FieldError::invalid(
                &at.child("httpHeaders"),
                &header.name,
                "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name')",
            ));
        }
    }
    errors
}

fn port(port: &IntOrString, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match port {
        IntOrString::Int(number) => {
            for complaint in names::port_number(i64::from(*number)) {
                errors.push(FieldError::invalid(at, number, complaint));
            }
        }
        IntOrString::String(name) => {
            meta::extend_invalid(&mut errors, at, name, names::port_name(name))
        }
    }
    errors
}

fn sleep(action: &SleepAction, grace: Option<i64>, at: &FieldPath) -> Vec<FieldError> {
    match grace {
        Some(grace) if action.seconds < 0 || action.seconds > grace => vec![FieldError::invalid(
            at,
            action.seconds,
            format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})"),
        )],
        _ => Vec::new(),
    }
}

fn stop_signal(spec: &PodSpec, signal: &str, at: &FieldPath) -> Option<FieldError> {
    let Some(os) = &spec.os else {
        return Some(FieldError::forbidden(
            at,
            "may not be set for containers with empty `spec.os.name`",
        ));
    };
    match os.name.as_str() {
        "windows" if !matches!(signal, "SIGKILL" | "SIGTERM") => Some(FieldError::not_supported(
            at,
            signal,
            &["SIGKILL", "SIGTERM"],
        )),
        "linux" if !is_linux_signal(signal) => {
            Some(FieldError::not_supported(at, signal, &LINUX_SIGNALS))
        }
        _ => None,
    }
}

const LINUX_SIGNALS: [&str; 35] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMIN",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
];

fn is_linux_signal(signal: &str) -> bool {
    let within = |rest: Option<&str>, most: u8| {
        rest.is_some_and(|n| {
            !n.starts_with(['0', '+']) && n.parse::<u8>().is_ok_and(|n| (1..=most).contains(&n))
        })
    };
    LINUX_SIGNALS.contains(&signal)
        || signal == "SIGXFSZ"
        || within(signal.strip_prefix("SIGRTMIN+"), 15)
        || within(signal.strip_prefix("SIGRTMAX-"), 14)
}
