//! flowcontrol.apiserver.k8s.io/v1 FlowSchema and PriorityLevelConfiguration.

use berth_api::field::{FieldError, FieldPath, bounded};
use berth_api::names;
use k8s_openapi::api::flowcontrol::v1::{
    FlowSchema, LimitedPriorityLevelConfiguration, PolicyRulesWithSubjects,
    PriorityLevelConfiguration, PriorityLevelConfigurationSpec, QueuingConfiguration, Subject,
};

use crate::Rules;
use crate::rules::spec_and_status;
use crate::values::{is_full, one_of, positive, required, text};
use berth_core::meta::{self, Scope};

const MAX_PRECEDENCE: i32 = 10_000;
const MAX_QUEUES: i32 = 10_000_000;

impl Rules for FlowSchema {
    fn default(&mut self) {
        let spec = self.spec.get_or_insert_default();
        if spec.matching_precedence.unwrap_or(0) == 0 {
            spec.matching_precedence = Some(1000);
        }
    }

    spec_and_status!();

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Cluster, names::dns1123_subdomain);
        errors.extend(schema_errors(self));
        bounded(errors)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(schema_errors(self));
        bounded(errors)
    }

    fn validate_status(&self, old: &Self) -> Vec<FieldError> {
        meta::validate_update(&self.metadata, &old.metadata)
    }
}

fn schema_errors(schema: &FlowSchema) -> Vec<FieldError> {
    let at = FieldPath::new("spec");
    let mut errors = Vec::new();
    let spec = schema.spec.clone().unwrap_or_default();
    let precedence = spec.matching_precedence.unwrap_or(0);
    let precedence_at = at.child("matchingPrecedence");
    if precedence <= 0 {
        let why = "must be a positive value";
        errors.push(FieldError::invalid(&precedence_at, precedence, why));
    }
    if precedence > MAX_PRECEDENCE {
        let why = format!("must not be greater than {MAX_PRECEDENCE}");
        errors.push(FieldError::invalid(&precedence_at, precedence, why));
    }
    if precedence == 1 && text(&schema.metadata.name) != "exempt" {
        let why = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.push(FieldError::invalid(&precedence_at, precedence, why));
    }
    if let Some(method) = &spec.distinguisher_method {
        let at = at.child("distinguisherMethod.type");
        one_of(&mut errors, &at, &method.type_, &["ByNamespace", "ByUser"]);
    }
    let level = &spec.priority_level_configuration.name;
    let level_at = at.child("priorityLevelConfiguration.name");
    if level.is_empty() {
        let why = "must reference a priority level";
        errors.push(FieldError::required(&level_at, why));
    } else {
        meta::extend_invalid(
            &mut errors,
            &level_at,
            level,
            names::dns1123_subdomain(level),
        );
    }
    for (i, rules) in spec.rules.iter().flatten().enumerate() {
        rule_errors(&mut errors, rules, &at.child("rules").index(i));
    }
    errors
}

fn rule_errors(errors: &mut Vec<FieldError>, rules: &PolicyRulesWithSubjects, at: &FieldPath) {
    if is_full(errors) {
        return;
    }
    if rules.subjects.is_empty() {
        let why = "subjects must contain at least one value";
        errors.push(FieldError::required(&at.child("subjects"), why));
    }
    for (i, subject) in rules.subjects.iter().enumerate() {
        subject_errors(errors, subject, &at.child("subjects").index(i));
    }
    let of_resources = rules.resource_rules.as_deref().unwrap_or_default();
    let of_others = rules.non_resource_rules.as_deref().unwrap_or_default();
    if of_resources.is_empty() && of_others.is_empty() {
        let why = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(FieldError::required(at, why));
    }
    let mut list = |at: FieldPath, list: &[String]| {
        if list.is_empty() {
            errors.push(FieldError::required(&at, "must contain at least one value"));
        } else if list.len() > 1 && list.iter().any(|item| item == "*") {
            let why = "if '*' is present, must not specify other values";
            errors.push(FieldError::invalid(&at, list, why));
        }
    };
    for (i, rule) in of_resources.iter().enumerate() {
        let at = at.child("resourceRules").index(i);
        list(at.child("verbs"), &rule.verbs);
        list(at.child("apiGroups"), &rule.api_groups);
        list(at.child("resources"), &rule.resources);
        if rule.cluster_scope != Some(true) {
            list(
                at.child("namespaces"),
                rule.namespaces.as_deref().unwrap_or_default(),
            );
        }
    }
    for (i, rule) in of_others.iter().enumerate() {
        let at = at.child("nonResourceRules").index(i);
        list(at.child("verbs"), &rule.verbs);
        list(at.child("nonResourceURLs"), &rule.non_resource_urls);
    }
}

fn subject_errors(errors: &mut Vec<FieldError>, subject: &Subject, at: &FieldPath) {
    if is_full(errors) {
        return;
    }
    one_of(
        errors,
        &at.child("kind"),
        &subject.kind,
        &["Group", "ServiceAccount", "User"],
    );
    for (name, kind, is_set) in [
        ("user", "User", subject.user.is_some()),
        ("group", "Group", subject.group.is_some()),
        (
            "serviceAccount",
            "ServiceAccount",
            subject.service_account.is_some(),
        ),
    ] {
        if kind == subject.kind && !is_set {
            let why = format!("{name} is required when subject kind is '{kind}'");
            errors.push(FieldError::required(&at.child(name), why));
        } else if kind != subject.kind && is_set {
            let why = format!("{name} is forbidden when subject kind is not '{kind}'");
            errors.push(FieldError::forbidden(&at.child(name), why));
        }
    }
    if let Some(user) = &subject.user {
        required(errors, &at.child("user.name"), &user.name);
    }
    if let Some(group) = &subject.group {
        required(errors, &at.child("group.name"), &group.name);
    }
    if let Some(account) = &subject.service_account {
        required(errors, &at.child("serviceAccount.name"), &account.name);
        required(
            errors,
            &at.child("serviceAccount.namespace"),
            &account.namespace,
        );
    }
}

impl Rules for PriorityLevelConfiguration {
    fn default(&mut self) {
        let spec = self.spec.get_or_insert_default();
        match spec.type_.as_str() {
            "Exempt" => {
                let exempt = spec.exempt.get_or_insert_default();
                exempt.nominal_concurrency_shares.get_or_insert(0);
                exempt.lendable_percent.get_or_insert(0);
            }
            "Limited" => {
                let limited = spec.limited.get_or_insert_default();
                limited.nominal_concurrency_shares.get_or_insert(30);
                limited.lendable_percent.get_or_insert(0);
                let response = limited.limit_response.get_or_insert_default();
                if response.type_.is_empty() {
                    "Reject".clone_into(&mut response.type_);
                }
                if response.type_ == "Queue" {
                    let queuing = response.queuing.get_or_insert_default();
                    queuing.queues.get_or_insert(64);
                    queuing.queue_length_limit.get_or_insert(50);
                    queuing.hand_size.get_or_insert(8);
                }
            }
            _ => {}
        }
    }

    spec_and_status!();

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Cluster, names::dns1123_subdomain);
        errors.extend(level_errors(self));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(level_errors(self));
        errors
    }

    fn validate_status(&self, old: &Self) -> Vec<FieldError> {
        meta::validate_update(&self.metadata, &old.metadata)
    }
}

fn level_errors(level: &PriorityLevelConfiguration) -> Vec<FieldError> {
    let at = FieldPath::new("spec");
    let mut errors = Vec::new();
    let none = PriorityLevelConfigurationSpec::default();
    let spec = level.spec.as_ref().unwrap_or(&none);
    one_of(
        &mut errors,
        &at.child("type"),
        &spec.type_,
        &["Exempt", "Limited"],
    );
    let is_exempt = text(&level.metadata.name) == "exempt";
    if is_exempt != (spec.type_ == "Exempt") && !spec.type_.is_empty() {
        let why = "must be 'Exempt' for the level named 'exempt', and for no other";
        errors.push(FieldError::invalid(&at.child("type"), &spec.type_, why));
    }
    for (name, kind, is_set) in [
        ("limited", "Limited", spec.limited.is_some()),
        ("exempt", "Exempt", spec.exempt.is_some()),
    ] {
        if kind != spec.type_ && is_set {
            let why = format!("must be nil if the type is not {kind}");
            errors.push(FieldError::forbidden(&at.child(name), why));
        }
    }
    match &spec.limited {
        Some(limited) => limited_errors(&mut errors, limited, &at.child("limited")),
        None if spec.type_ == "Limited" => {
            let why = "must not be empty when type is Limited";
            errors.push(FieldError::required(&at.child("limited"), why));
        }
        None => {}
    }
    errors
}

fn limited_errors(
    errors: &mut Vec<FieldError>,
    limited: &LimitedPriorityLevelConfiguration,
    at: &FieldPath,
) {
    if let Some(shares) = limited
        .nominal_concurrency_shares
        .filter(|shares| *shares < 0)
    {
        let why = "must be a non-negative integer";
        errors.push(FieldError::invalid(
            &at.child("nominalConcurrencyShares"),
            shares,
            why,
        ));
    }
    if let Some(percent) = limited.lendable_percent.filter(|p| !(0..=100).contains(p)) {
        let why = "must be between 0 and 100, inclusive";
        errors.push(FieldError::invalid(
            &at.child("lendablePercent"),
            percent,
            why,
        ));
    }
    if let Some(percent) = limited.borrowing_limit_percent.filter(|p| *p < 0) {
        let why = "if specified, must be a non-negative integer";
        errors.push(FieldError::invalid(
            &at.child("borrowingLimitPercent"),
            percent,
            why,
        ));
    }
    let Some(response) = &limited.limit_response else {
        return;
    };
    let at = at.child("limitResponse");
    one_of(
        errors,
        &at.child("type"),
        &response.type_,
        &["Queue", "Reject"],
    );
    let queuing_at = at.child("queuing");
    match (&response.queuing, response.type_.as_str()) {
        (Some(_), "Reject") => {
            let why = "must be nil if limited.limitResponse.type is not Queue";
            errors.push(FieldError::forbidden(&queuing_at, why));
        }
        (Some(queuing), _) => queuing_errors(errors, queuing, &queuing_at),
        (None, "Queue") => {
            let why = "must not be empty if limited.limitResponse.type is Queue";
            errors.push(FieldError::required(&queuing_at, why));
        }
        (None, _) => {}
    }
}

fn queuing_errors(errors: &mut Vec<FieldError>, queuing: &QueuingConfiguration, at: &FieldPath) {
    let (queues, hand) = (queuing.queues.unwrap_or(0), queuing.hand_size.unwrap_or(0));
    for (name, value) in [
        ("queueLengthLimit", queuing.queue_length_limit.unwrap_or(0)),
        ("queues", queues),
        ("handSize", hand),
    ] {
        positive(errors, &at.child(name), i64::from(value));
    }
    if queues > MAX_QUEUES {
        let why = format!("must not be greater than {MAX_QUEUES}");
        errors.push(FieldError::invalid(&at.child("queues"), queues, why));
    }
    if hand > queues {
        let why = format!("should not be greater than queues ({queues})");
        errors.push(FieldError::invalid(&at.child("handSize"), hand, why));
    }
}
