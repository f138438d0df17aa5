//! Slurm's reason for each sort of amount over each sort of limit. A flat table. Source: `man squeue`.

use model::reason::Reason;

/// Whose limit, and per what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// GrpTRES of a QOS.
    QosGroup,
    /// MaxTRESPerJob of a QOS.
    QosJob,
    /// MaxTRESPerNode of a QOS.
    QosNode,
    /// MaxTRESPerAccount of a QOS.
    QosAccount,
    /// MaxTRESPerUser of a QOS.
    QosUser,
    /// MinTRESPerJob of a QOS.
    QosLeast,
    /// GrpTRES of an association.
    AssocGroup,
    /// MaxTRESPerJob of an association.
    AssocJob,
    /// MaxTRESPerNode of an association.
    AssocNode,
}

/// The reason for too much (or too little) of a TRES.
pub(super) fn reason(of: Of, tres: &str) -> Reason {
    let [cpu, memory, node, billing, other] = match of {
        Of::QosGroup => [
            Reason::QOSGrpCpuLimit,
            Reason::QOSGrpMemLimit,
            Reason::QOSGrpNodeLimit,
            Reason::QOSGrpBilling,
            Reason::QOSGrpGRES,
        ],
        Of::QosJob => [
            Reason::QOSMaxCpuPerJobLimit,
            Reason::QOSMaxMemoryPerJob,
            Reason::QOSMaxNodePerJobLimit,
            Reason::QOSMaxBillingPerJob,
            Reason::QOSMaxGRESPerJob,
        ],
        Of::QosNode => [
            Reason::QOSMaxCpuPerNode,
            Reason::QOSMaxMemoryPerNode,
            Reason::QOSMaxNodePerJobLimit,
            Reason::QOSMaxBillingPerNode,
            Reason::QOSMaxGRESPerNode,
        ],
        Of::QosAccount => [
            Reason::MaxCpuPerAccount,
            Reason::MaxMemoryPerAccount,
            Reason::MaxNodePerAccount,
            Reason::MaxBillingPerAccount,
            Reason::MaxGRESPerAccount,
        ],
        Of::QosUser => [
            Reason::QOSMaxCpuPerUserLimit,
            Reason::QOSMaxMemoryPerUser,
            Reason::QOSMaxNodePerUserLimit,
            Reason::QOSMaxBillingPerUser,
            Reason::QOSMaxGRESPerUser,
        ],
        Of::QosLeast => [
            Reason::QOSMinCpuNotSatisfied,
            Reason::QOSMinMemory,
            Reason::QOSMinNode,
            Reason::QOSMinBilling,
            Reason::QOSMinGRES,
        ],
        Of::AssocGroup => [
            Reason::AssocGrpCpuLimit,
            Reason::AssocGrpMemLimit,
            Reason::AssocGrpNodeLimit,
            Reason::AssocGrpBilling,
            Reason::AssocGrpGRES,
        ],
        Of::AssocJob => [
            Reason::AssocMaxCpuPerJobLimit,
            Reason::AssocMaxMemPerJob,
            Reason::AssocMaxNodePerJobLimit,
            Reason::AssocMaxBillingPerJob,
            Reason::AssocMaxGRESPerJob,
        ],
        Of::AssocNode => [
            Reason::AssocMaxCpuPerNode,
            Reason::AssocMaxMemPerNode,
            Reason::AssocMaxNodePerJobLimit,
            Reason::AssocMaxBillingPerNode,
            Reason::AssocMaxGRESPerNode,
        ],
    };
    match tres {
        "cpu" => cpu,
        "mem" => memory,
        "node" => node,
        "billing" => billing,
        _ => other,
    }
}
