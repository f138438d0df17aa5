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
    /// GrpTRESMins of a QOS.
    QosMinutes,
    /// GrpTRESRunMins of a QOS.
    QosRunMinutes,
    /// MaxTRESMinsPerJob of a QOS.
    QosJobMinutes,
    /// GrpTRESMins of an association.
    AssocMinutes,
    /// GrpTRESRunMins of an association.
    AssocRunMinutes,
    /// MaxTRESMinsPerJob of an association.
    AssocJobMinutes,
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
        Of::QosMinutes => [
            Reason::QOSGrpCPUMinutesLimit,
            Reason::QOSGrpMemoryMinutes,
            Reason::QOSGrpNodeMinutes,
            Reason::QOSGrpBillingMinutes,
            Reason::QOSGrpGRESMinutes,
        ],
        Of::QosRunMinutes => [
            Reason::QOSGrpCPURunMinutesLimit,
            Reason::QOSGrpMemoryRunMinutes,
            Reason::QOSGrpNodeRunMinutes,
            Reason::QOSGrpBillingRunMinutes,
            Reason::QOSGrpGRESRunMinutes,
        ],
        Of::QosJobMinutes => [
            Reason::QOSMaxCpuMinutesPerJobLimit,
            Reason::QOSMaxMemoryMinutesPerJob,
            Reason::QOSMaxNodeMinutesPerJob,
            Reason::QOSMaxBillingMinutesPerJob,
            Reason::QOSMaxGRESMinutesPerJob,
        ],
        Of::AssocMinutes => [
            Reason::AssocGrpCPUMinutesLimit,
            Reason::AssocGrpMemMinutes,
            Reason::AssocGrpNodeMinutes,
            Reason::AssocGrpBillingMinutes,
            Reason::AssocGrpGRESMinutes,
        ],
        Of::AssocRunMinutes => [
            Reason::AssocGrpCPURunMinutesLimit,
            Reason::AssocGrpMemRunMinutes,
            Reason::AssocGrpNodeRunMinutes,
            Reason::AssocGrpBillingRunMinutes,
            Reason::AssocGrpGRESRunMinutes,
        ],
        Of::AssocJobMinutes => [
            Reason::AssocMaxCpuMinutesPerJobLimit,
            Reason::AssocMaxMemMinutesPerJob,
            Reason::AssocMaxNodeMinutesPerJob,
            Reason::AssocMaxBillingMinutesPerJob,
            Reason::AssocMaxGRESMinutesPerJob,
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
