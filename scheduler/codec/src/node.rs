//! Nodes.

use std::sync::Arc;

use model::id::{BootId, NodeIdx, SpoolId, Uid};
use model::quantity::{Cpus, MemoryMib};
use model::time::Timestamp;
use proto::convert::gpu;
use proto::journal_v1 as w;
use scheduler_core::record::Record;
use scheduler_core::state::node::{
    Admin, GresDefinition, Hardware, Incarnation, Link, NodeDefinition, Observed,
};

use crate::allocation::{words_in, words_out};
use crate::error::{Error, need};

pub(crate) fn defined_out(node: NodeIdx, definition: &NodeDefinition, removed: bool) -> w::NodeDefined {
    w::NodeDefined { node: node.0, definition: Some(definition_out(definition)), removed }
}

fn definition_out(definition: &NodeDefinition) -> w::NodeDefinition {
    let gres = |gres: &GresDefinition| w::GresDefinition {
        name: gres.name.to_string(),
        kind: gres.kind.to_string(),
        count: gres.count,
        indexed: gres.indexed,
    };
    w::NodeDefinition {
        name: definition.name.to_string(),
        hostname: definition.hostname.to_string(),
        address: definition.address.to_string(),
        port: definition.port,
        cpus: definition.cpus.0,
        boards: definition.boards,
        sockets: definition.sockets,
        cores_per_socket: definition.cores_per_socket,
        threads_per_core: definition.threads_per_core,
        memory_mib: definition.memory.0,
        tmp_disk_mib: definition.tmp_disk.0,
        features: words_out(&definition.features),
        gres: definition.gres.iter().map(gres).collect(),
        weight: definition.weight,
        bind: definition.bind,
    }
}

pub(crate) fn defined_in(wire: w::NodeDefined) -> Result<Record, Error> {
    let definition = need("definition", wire.definition)?;
    let gres = |gres: w::GresDefinition| GresDefinition {
        name: gres.name.into(),
        kind: gres.kind.into(),
        count: gres.count,
        indexed: gres.indexed,
    };
    let definition = NodeDefinition {
        name: definition.name.into(),
        hostname: definition.hostname.into(),
        address: definition.address.into(),
        port: definition.port,
        cpus: Cpus(definition.cpus),
        boards: definition.boards,
        sockets: definition.sockets,
        cores_per_socket: definition.cores_per_socket,
        threads_per_core: definition.threads_per_core,
        memory: MemoryMib(definition.memory_mib),
        tmp_disk: MemoryMib(definition.tmp_disk_mib),
        features: words_in(definition.features),
        gres: definition.gres.into_iter().map(gres).collect(),
        weight: definition.weight,
        bind: definition.bind,
    };
    Ok(Record::NodeDefined {
        node: NodeIdx(wire.node),
        definition: Arc::new(definition),
        removed: wire.removed,
    })
}

pub(crate) fn admin_out(node: NodeIdx, admin: &Admin) -> w::NodeAdmin {
    w::NodeAdmin {
        node: node.0,
        drain: admin.drain,
        down: admin.down,
        resume_pending: admin.resume_pending,
        invalid: admin.invalid,
        reason: admin.reason.to_string(),
        reason_uid: admin.reason_uid.map(|uid| uid.0),
        reason_ms: admin.reason_at.map(|at| at.0),
    }
}

pub(crate) fn admin_in(wire: w::NodeAdmin) -> Record {
    let admin = Admin {
        drain: wire.drain,
        down: wire.down,
        resume_pending: wire.resume_pending,
        invalid: wire.invalid,
        reason: wire.reason.into(),
        reason_uid: wire.reason_uid.map(Uid),
        reason_at: wire.reason_ms.map(Timestamp),
    };
    Record::NodeAdmin { node: NodeIdx(wire.node), admin }
}

pub(crate) fn link_out(node: NodeIdx, link: Link) -> w::NodeLink {
    use w::node_link::Link as Wire;
    let (wire, since_ms, timed_out) = match link {
        Link::Never => (Wire::Never, 0, false),
        Link::Up => (Wire::Up, 0, false),
        Link::Silent { since, timed_out } => (Wire::Silent, since.0, timed_out),
    };
    w::NodeLink { node: node.0, link: wire.into(), since_ms, timed_out }
}

pub(crate) fn link_in(wire: w::NodeLink) -> Result<Record, Error> {
    use w::node_link::Link as Wire;
    let link = match Wire::try_from(wire.link) {
        Ok(Wire::Never) => Link::Never,
        Ok(Wire::Up) => Link::Up,
        Ok(Wire::Silent) => Link::Silent { since: Timestamp(wire.since_ms), timed_out: wire.timed_out },
        Ok(Wire::Newer) | Err(_) => return Err(Error::Field { field: "link" }),
    };
    Ok(Record::NodeLink { node: NodeIdx(wire.node), link })
}

fn hardware_out(hardware: Hardware) -> w::Hardware {
    w::Hardware {
        cpus: hardware.cpus.0,
        sockets: hardware.sockets,
        cores_per_socket: hardware.cores_per_socket,
        threads_per_core: hardware.threads_per_core,
        memory_mib: hardware.memory.0,
        tmp_disk_mib: hardware.tmp_disk.0,
        gpus: hardware.gpus,
    }
}

fn hardware_in(wire: w::Hardware) -> Hardware {
    Hardware {
        cpus: Cpus(wire.cpus),
        sockets: wire.sockets,
        cores_per_socket: wire.cores_per_socket,
        threads_per_core: wire.threads_per_core,
        memory: MemoryMib(wire.memory_mib),
        tmp_disk: MemoryMib(wire.tmp_disk_mib),
        gpus: wire.gpus,
    }
}

pub(crate) fn registered_out(
    node: NodeIdx,
    incarnation: &Incarnation,
    observed: &Observed,
) -> w::NodeRegistered {
    w::NodeRegistered {
        node: node.0,
        boot: incarnation.boot.0.to_vec(),
        spool: incarnation.spool.0.to_vec(),
        observed: Some(w::Observed {
            os: observed.os.to_string(),
            architecture: observed.architecture.to_string(),
            version: observed.version.to_string(),
            boot_ms: observed.boot_at.map(|at| at.0),
            start_ms: observed.start_at.map(|at| at.0),
            run_folder: observed.run_folder.to_string(),
            uid: observed.uid.map(|uid| uid.0),
            lacks: words_out(&observed.lacks),
            cgroups: observed.cgroups.to_string(),
            attested: words_out(&observed.attested),
            gpus: gpu::outwards(&observed.gpus),
            hardware: observed.hardware.map(hardware_out),
        }),
    }
}

pub(crate) fn registered_in(wire: w::NodeRegistered) -> Result<Record, Error> {
    let observed = need("observed", wire.observed)?;
    let observed = Observed {
        os: observed.os.into(),
        architecture: observed.architecture.into(),
        version: observed.version.into(),
        boot_at: observed.boot_ms.map(Timestamp),
        start_at: observed.start_ms.map(Timestamp),
        run_folder: observed.run_folder.into(),
        uid: observed.uid.map(Uid),
        lacks: words_in(observed.lacks),
        cgroups: observed.cgroups.into(),
        attested: words_in(observed.attested),
        gpus: gpu::inwards(observed.gpus).map_err(|fault| Error::Field { field: fault.field })?,
        hardware: observed.hardware.map(hardware_in),
    };
    let incarnation = Incarnation {
        boot: need("boot", BootId::try_from(wire.boot.as_slice()).ok())?,
        spool: need("spool", SpoolId::try_from(wire.spool.as_slice()).ok())?,
    };
    Ok(Record::NodeRegistered { node: NodeIdx(wire.node), incarnation, observed: Arc::new(observed) })
}
