//! Which node ports a service gets: those that it names, and free ones where it leaves them open.

use std::collections::{BTreeSet, HashMap, HashSet};

use berth_api::field::{FieldError, FieldPath};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};

use super::{LOAD_BALANCER, NODE_PORT, has_health_check_port, has_node_ports};
use crate::values::text;

/// Why a node port is not given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Somebody has it.
    #[error("provided port is already allocated")]
    Allocated,
    /// It is none that is given out.
    #[error("provided port is not in the valid range. The range of valid ports is {0}")]
    NotInRange(String),
    /// All are taken.
    #[error("range is full")]
    Full,
}

/// Who knows which ports are free.
pub trait Holder {
    /// Takes this port.
    ///
    /// # Errors
    /// Why it can't be had.
    fn take(&mut self, port: i32) -> Result<(), PortError>;

    /// Takes any free one.
    ///
    /// # Errors
    /// That there is none.
    fn take_any(&mut self) -> Result<i32, PortError>;

    /// Gives one back.
    fn release(&mut self, port: i32);
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssignError {
    /// A port that the service names can't be had.
    #[error("invalid")]
    Invalid(FieldError),
    /// There is none left, or the one for health checks can't be had.
    #[error("{0}")]
    Failed(String),
}

/// Gives a service the node ports that its type has, and takes back those of `old` that it no longer has. With no `new`
/// the service goes.
///
/// # Errors
/// Why there is no port; what was taken before is the holder's to undo.
pub fn assign(
    new: Option<&mut Service>,
    old: Option<&Service>,
    holder: &mut impl Holder,
) -> Result<(), AssignError> {
    let before = old
        .and_then(|old| old.spec.as_ref())
        .map(numbers)
        .unwrap_or_default();
    let mut now = before.clone();
    let mut kept = BTreeSet::new();
    if let Some(spec) = new.and_then(|new| new.spec.as_mut()) {
        // What is named comes first, so that nothing open takes its place.
        if matches!(text(&spec.type_), NODE_PORT | LOAD_BALANCER) {
            named(spec, &mut now, holder)?;
            open(spec, &mut now, holder)?;
        }
        if has_health_check_port(spec) {
            health_check(spec, &mut now, holder)?;
        }
        kept = numbers(spec);
    }
    for port in before.difference(&kept) {
        holder.release(*port);
    }
    Ok(())
}

/// The node ports that a service has, that of its health checks included.
pub(super) fn numbers(spec: &ServiceSpec) -> BTreeSet<i32> {
    let external = matches!(text(&spec.type_), NODE_PORT | LOAD_BALANCER);
    let ports = spec.ports.iter().flatten().filter_map(|p| p.node_port);
    let check = spec
        .health_check_node_port
        .filter(|_| has_health_check_port(spec));
    ports
        .filter(|_| external)
        .chain(check)
        .filter(|p| *p != 0)
        .collect()
}

fn is_open(port: &ServicePort) -> bool {
    port.node_port.unwrap_or(0) == 0
}

fn named(
    spec: &ServiceSpec,
    now: &mut BTreeSet<i32>,
    holder: &mut impl Holder,
) -> Result<(), AssignError> {
    for (i, port) in spec.ports.iter().flatten().enumerate() {
        let Some(number) = port.node_port.filter(|p| *p != 0) else {
            continue;
        };
        if now.contains(&number) {
            continue;
        }
        holder.take(number).map_err(|error| {
            let at = FieldPath::new("spec.ports").index(i).child("nodePort");
            AssignError::Invalid(FieldError::invalid(&at, number, error.to_string()))
        })?;
        now.insert(number);
    }
    Ok(())
}

fn open(
    spec: &mut ServiceSpec,
    now: &mut BTreeSet<i32>,
    holder: &mut impl Holder,
) -> Result<(), AssignError> {
    if !has_node_ports(spec) {
        return Ok(());
    }
    let mut places = Places::default();
    for port in spec.ports.iter().flatten().filter(|port| !is_open(port)) {
        places.add(port);
    }
    for port in spec.ports.iter_mut().flatten().filter(|port| is_open(port)) {
        let number = match places.shared(port) {
            Some(number) => number,
            None => holder.take_any().map_err(|error| {
                AssignError::Failed(format!("failed to allocate a nodePort: {error}"))
            })?,
        };
        now.insert(number);
        port.node_port = Some(number);
        places.add(port);
    }
    Ok(())
}

/// Which ports have a node port already.
#[derive(Default)]
struct Places {
    by_port: HashMap<i32, i32>,
    used: HashSet<(String, i32)>,
}

impl Places {
    fn add(&mut self, port: &ServicePort) {
        let number = port.node_port.unwrap_or(0);
        self.by_port.entry(port.port).or_insert(number);
        self.used.insert((text(&port.protocol).to_owned(), number));
    }

    /// One number serves the same port in all protocols.
    fn shared(&self, port: &ServicePort) -> Option<i32> {
        let number = *self.by_port.get(&port.port)?;
        let taken = (text(&port.protocol).to_owned(), number);
        (!self.used.contains(&taken)).then_some(number)
    }
}

fn health_check(
    spec: &mut ServiceSpec,
    now: &mut BTreeSet<i32>,
    holder: &mut impl Holder,
) -> Result<(), AssignError> {
    match spec.health_check_node_port.filter(|p| *p != 0) {
        Some(port) if now.contains(&port) => Ok(()),
        Some(port) => holder.take(port).map_err(|error| {
            AssignError::Failed(format!(
                "failed to allocate requested HealthCheck NodePort {port}: {error}"
            ))
        }),
        None => {
            let port = holder.take_any().map_err(|error| {
                AssignError::Failed(format!(
                    "failed to allocate a HealthCheck NodePort: {error}"
                ))
            })?;
            spec.health_check_node_port = Some(port);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Ports from 100 to 103.
    #[derive(Default)]
    struct Few(BTreeSet<i32>);

    impl Holder for Few {
        fn take(&mut self, port: i32) -> Result<(), PortError> {
            if !(100..104).contains(&port) {
                return Err(PortError::NotInRange("100-103".to_owned()));
            }
            self.0
                .insert(port)
                .then_some(())
                .ok_or(PortError::Allocated)
        }

        fn take_any(&mut self) -> Result<i32, PortError> {
            let free = (100..104).find(|port| self.0.insert(*port));
            free.ok_or(PortError::Full)
        }

        fn release(&mut self, port: i32) {
            self.0.remove(&port);
        }
    }

    fn service(spec: Value) -> Service {
        let mut service: Service = serde_json::from_value(json!({"spec": spec})).unwrap();
        crate::Rules::default(&mut service);
        service
    }

    fn ports(service: &Service) -> Vec<i32> {
        let ports = service.spec.as_ref().unwrap().ports.iter().flatten();
        ports.map(|p| p.node_port.unwrap_or(0)).collect()
    }

    #[test]
    fn what_is_named_is_had_before_what_is_open_takes_any() {
        let mut few = Few::default();
        let mut one = service(json!({"type": "NodePort", "ports": [
            {"port": 1}, {"port": 2, "nodePort": 100}, {"port": 1, "protocol": "UDP"}]}));
        assign(Some(&mut one), None, &mut few).unwrap();
        assert_eq!(ports(&one), [101, 100, 101]);
        assert_eq!(few.0, [100, 101].into());
        let old = one.clone();
        one.spec
            .as_mut()
            .unwrap()
            .ports
            .as_mut()
            .unwrap()
            .truncate(1);
        assign(Some(&mut one), Some(&old), &mut few).unwrap();
        assert_eq!(few.0, [101].into());
        assign(None, Some(&one), &mut few).unwrap();
        assert!(few.0.is_empty());
    }

    #[test]
    fn what_is_taken_or_not_given_out_is_said() {
        let mut few = Few([102].into());
        for (port, why) in [
            (
                102,
                "spec.ports[0].nodePort: Invalid value: 102: provided port is already allocated",
            ),
            (99, "The range of valid ports is 100-103"),
        ] {
            let mut one =
                service(json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": port}]}));
            match assign(Some(&mut one), None, &mut few).unwrap_err() {
                AssignError::Invalid(error) => {
                    assert!(error.to_string().contains(why), "{error}");
                }
                AssignError::Failed(error) => panic!("{error}"),
            }
        }
        let many: Vec<Value> = (1..5).map(|port| json!({"port": port})).collect();
        let mut full = service(json!({"type": "NodePort", "ports": many}));
        let error = assign(Some(&mut full), None, &mut few).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to allocate a nodePort: range is full"
        );
    }

    #[test]
    fn health_checks_have_a_port_as_long_as_the_policy_is_local() {
        let mut few = Few::default();
        let mut one = service(
            json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local",
            "allocateLoadBalancerNodePorts": false, "ports": [{"port": 1}]}),
        );
        assign(Some(&mut one), None, &mut few).unwrap();
        assert_eq!(ports(&one), [0]);
        assert_eq!(one.spec.as_ref().unwrap().health_check_node_port, Some(100));
        let old = one.clone();
        let spec = one.spec.as_mut().unwrap();
        spec.external_traffic_policy = Some("Cluster".to_owned());
        spec.health_check_node_port = None;
        assign(Some(&mut one), Some(&old), &mut few).unwrap();
        assert!(few.0.is_empty());
    }

    #[test]
    fn another_type_gives_its_ports_back() {
        let mut few = Few::default();
        let mut old = service(json!({"type": "NodePort", "ports": [{"port": 1}]}));
        assign(Some(&mut old), None, &mut few).unwrap();
        let mut new = service(json!({"ports": [{"port": 1}]}));
        assign(Some(&mut new), Some(&old), &mut few).unwrap();
        assert!(few.0.is_empty());
        let mut named =
            service(json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 100}]}));
        assign(Some(&mut named), Some(&new), &mut few).unwrap();
        assert_eq!(few.0, [100].into());
    }
}
