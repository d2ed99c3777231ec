"""Messages for the committed offsets of consumer groups, in the notation of `definition`."""

DEFINITIONS = """
OffsetCommit 8 2-9 flexible 8+
  request
    group_id string
    generation_id_or_member_epoch int32 =-1
    member_id string
    group_instance_id string? 7+
    retention_time_ms int64 2-4 =-1
    topics[]
        name string
        partitions[]
            partition_index int32
            committed_offset int64
            committed_leader_epoch int32 6+ =-1
            committed_metadata string?
  response
    throttle_time_ms int32 3+
    topics[]
        name string
        partitions[]
            partition_index int32
            error_code int16

OffsetFetch 9 1-9 flexible 6+
  request
    groups[] 8+
        group_id string
        member_id string? 9+
        member_epoch int32 9+ =-1
        topics[]?
            name string
            partition_indexes[] int32
    group_id string 1-7
    topics[]?2+ 1-7
        name string
        partition_indexes[] int32
    require_stable bool 7+
  response
    throttle_time_ms int32 3+
    groups[] 8+
        group_id string
        topics[]
            name string
            partitions[]
                partition_index int32
                committed_offset int64
                committed_leader_epoch int32 =-1
                metadata string?
                error_code int16
        error_code int16
    topics[] 1-7
        name string
        partitions[]
            partition_index int32
            committed_offset int64
            committed_leader_epoch int32 5+ =-1
            metadata string?
            error_code int16
    error_code int16 2-7
"""
