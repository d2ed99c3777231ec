"""Messages for consumer groups: coordinator, members, state; in the notation of `definition`."""

DEFINITIONS = """
FindCoordinator 10 0-4 flexible 3+
  request
    key string 0-3
    key_type int8 1+
    coordinator_keys[] string 4+
  response
    throttle_time_ms int32 1+
    coordinators[] 4+
        key string
        node_id int32
        host string
        port int32
        error_code int16
        error_message string?
    error_code int16 0-3
    error_message string? 1-3
    node_id int32 0-3
    host string 0-3
    port int32 0-3

JoinGroup 11 2-9 flexible 6+
  request
    group_id string
    session_timeout_ms int32
    rebalance_timeout_ms int32 =-1
    member_id string
    group_instance_id string? 5+
    protocol_type string
    protocols[]
        name string
        metadata bytes
    reason string? 8+
  response
    throttle_time_ms int32
    error_code int16
    generation_id int32 =-1
    protocol_type string? 7+
    protocol_name string?7+
    leader string
    skip_assignment bool 9+
    member_id string
    members[]
        member_id string
        group_instance_id string? 5+
        metadata bytes

SyncGroup 14 0-5 flexible 4+
  request
    group_id string
    generation_id int32
    member_id string
    group_instance_id string? 3+
    protocol_type string? 5+
    protocol_name string? 5+
    assignments[]
        member_id string
        assignment bytes
  response
    throttle_time_ms int32 1+
    error_code int16
    protocol_type string? 5+
    protocol_name string? 5+
    assignment bytes

Heartbeat 12 0-4 flexible 4+
  request
    group_id string
    generation_id int32
    member_id string
    group_instance_id string? 3+
  response
    throttle_time_ms int32 1+
    error_code int16

LeaveGroup 13 0-5 flexible 4+
  request
    group_id string
    members[] 3+
        member_id string
        group_instance_id string?
        reason string? 5+
    member_id string 0-2
  response
    throttle_time_ms int32 1+
    error_code int16
    members[] 3+
        member_id string
        group_instance_id string?
        error_code int16

DescribeGroups 15 0-5 flexible 5+
  request
    groups[] string
    include_authorized_operations bool 3+
  response
    throttle_time_ms int32 1+
    groups[]
        error_code int16
        group_id string
        group_state string
        protocol_type string
        protocol_data string
        members[]
            member_id string
            group_instance_id string? 4+
            client_id string
            client_host string
            member_metadata bytes
            member_assignment bytes
        authorized_operations int32 3+ =-2147483648

ListGroups 16 0-4 flexible 3+
  request
    states_filter[] string 4+
  response
    throttle_time_ms int32 1+
    error_code int16
    groups[]
        group_id string
        protocol_type string
        group_state string 4+

DeleteGroups 42 0-2 flexible 2+
  request
    groups_names[] string
  response
    throttle_time_ms int32
    results[]
        group_id string
        error_code int16
"""
