"""The requests and answers that the broker understands, as data.

Source: Kafka's message definitions (``clients/src/main/resources/common/message``). One block per API: name, key,
supported versions, first flexible version; then the fields in wire order. A field is
``name type [versions] [tag=n] [=default]``; ``name[]`` is an array (of structs when no type follows); ``?`` marks what may
be null, ``?7+`` what may be null from version 7 on. Optional tagged fields that this broker neither reads nor sends are
left out: the reader skips tags that it does not know. The tests compare every version with an independent implementation.
"""

DEFINITIONS = """
Produce 0 3-12 flexible 9+
  request
    transactional_id string?
    acks int16
    timeout_ms int32
    topic_data[]
        name string
        partition_data[]
            index int32
            records bytes?
  response
    responses[]
        name string
        partition_responses[]
            index int32
            error_code int16
            base_offset int64
            log_append_time int64 =-1
            log_start_offset int64 5+ =-1
            record_errors[] 8+
                batch_index int32
                batch_index_error_message string?
            error_message string? 8+
    throttle_time_ms int32

Fetch 1 4-12 flexible 12+
  request
    replica_id int32 =-1
    max_wait_ms int32
    min_bytes int32
    max_bytes int32 =2147483647
    isolation_level int8
    session_id int32 7+
    session_epoch int32 7+ =-1
    topics[]
        topic string
        partitions[]
            partition int32
            current_leader_epoch int32 9+ =-1
            fetch_offset int64
            last_fetched_epoch int32 12+ =-1
            log_start_offset int64 5+ =-1
            partition_max_bytes int32
    forgotten_topics_data[] 7+
        topic string
        partitions[] int32
    rack_id string 11+
  response
    throttle_time_ms int32
    error_code int16 7+
    session_id int32 7+
    responses[]
        topic string
        partitions[]
            partition_index int32
            error_code int16
            high_watermark int64
            last_stable_offset int64 =-1
            log_start_offset int64 5+ =-1
            aborted_transactions[]?
                producer_id int64
                first_offset int64
            preferred_read_replica int32 11+ =-1
            records bytes?

ListOffsets 2 1-7 flexible 6+
  request
    replica_id int32
    isolation_level int8 2+
    topics[]
        name string
        partitions[]
            partition_index int32
            current_leader_epoch int32 4+ =-1
            timestamp int64
  response
    throttle_time_ms int32 2+
    topics[]
        name string
        partitions[]
            partition_index int32
            error_code int16
            timestamp int64 =-1
            offset int64 =-1
            leader_epoch int32 4+ =-1

Metadata 3 0-12 flexible 9+
  request
    topics[]?1+
        topic_id uuid? 10+
        name string?10+
    allow_auto_topic_creation bool 4+ =1
    include_cluster_authorized_operations bool 8-10
    include_topic_authorized_operations bool 8+
  response
    throttle_time_ms int32 3+
    brokers[]
        node_id int32
        host string
        port int32
        rack string? 1+
    cluster_id string? 2+
    controller_id int32 1+ =-1
    topics[]
        error_code int16
        name string?12+
        topic_id uuid? 10+
        is_internal bool 1+
        partitions[]
            error_code int16
            partition_index int32
            leader_id int32
            leader_epoch int32 7+ =-1
            replica_nodes[] int32
            isr_nodes[] int32
            offline_replicas[] int32 5+
        topic_authorized_operations int32 8+ =-2147483648
    cluster_authorized_operations int32 8-10 =-2147483648

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

ApiVersions 18 0-4 flexible 3+
  request
    client_software_name string 3+
    client_software_version string 3+
  response
    error_code int16
    api_keys[]
        api_key int16
        min_version int16
        max_version int16
    throttle_time_ms int32 1+
    supported_features[] 3+ tag=0
        name string
        min_version int16
        max_version int16
    finalized_features_epoch int64 3+ tag=1 =-1
    finalized_features[] 3+ tag=2
        name string
        max_version_level int16
        min_version_level int16

CreateTopics 19 2-7 flexible 5+
  request
    topics[]
        name string
        num_partitions int32
        replication_factor int16
        assignments[]
            partition_index int32
            broker_ids[] int32
        configs[]
            name string
            value string?
    timeout_ms int32 =60000
    validate_only bool
  response
    throttle_time_ms int32
    topics[]
        name string
        topic_id uuid? 7+
        error_code int16
        error_message string?
        num_partitions int32 5+ =-1
        replication_factor int16 5+ =-1
        configs[]? 5+
            name string
            value string?
            read_only bool
            config_source int8 =-1
            is_sensitive bool

DeleteTopics 20 1-6 flexible 4+
  request
    topics[] 6+
        name string?
        topic_id uuid?
    topic_names[] string 1-5
    timeout_ms int32
  response
    throttle_time_ms int32
    responses[]
        name string?6+
        topic_id uuid? 6+
        error_code int16
        error_message string? 5+

DeleteRecords 21 0-2 flexible 2+
  request
    topics[]
        name string
        partitions[]
            partition_index int32
            offset int64
    timeout_ms int32
  response
    throttle_time_ms int32
    topics[]
        name string
        partitions[]
            partition_index int32
            low_watermark int64
            error_code int16

InitProducerId 22 0-5 flexible 2+
  request
    transactional_id string?
    transaction_timeout_ms int32
    producer_id int64 3+ =-1
    producer_epoch int16 3+ =-1
  response
    throttle_time_ms int32
    error_code int16
    producer_id int64 =-1
    producer_epoch int16

AddPartitionsToTxn 24 0-3 flexible 3+
  request
    transactional_id string
    producer_id int64
    producer_epoch int16
    topics[]
        name string
        partitions[] int32
  response
    throttle_time_ms int32
    results_by_topic[]
        name string
        results_by_partition[]
            partition_index int32
            partition_error_code int16

AddOffsetsToTxn 25 0-4 flexible 3+
  request
    transactional_id string
    producer_id int64
    producer_epoch int16
    group_id string
  response
    throttle_time_ms int32
    error_code int16

EndTxn 26 0-5 flexible 3+
  request
    transactional_id string
    producer_id int64
    producer_epoch int16
    committed bool
  response
    throttle_time_ms int32
    error_code int16
    producer_id int64 5+ =-1
    producer_epoch int16 5+ =-1

TxnOffsetCommit 28 0-5 flexible 3+
  request
    transactional_id string
    group_id string
    producer_id int64
    producer_epoch int16
    generation_id int32 3+ =-1
    member_id string 3+
    group_instance_id string? 3+
    topics[]
        name string
        partitions[]
            partition_index int32
            committed_offset int64
            committed_leader_epoch int32 2+ =-1
            committed_metadata string?
  response
    throttle_time_ms int32
    topics[]
        name string
        partitions[]
            partition_index int32
            error_code int16

DescribeConfigs 32 1-4 flexible 4+
  request
    resources[]
        resource_type int8
        resource_name string
        configuration_keys[] string?
    include_synonyms bool
    include_documentation bool 3+
  response
    throttle_time_ms int32
    results[]
        error_code int16
        error_message string?
        resource_type int8
        resource_name string
        configs[]
            name string
            value string?
            read_only bool
            config_source int8 =-1
            is_sensitive bool
            synonyms[]
                name string
                value string?
                source int8
            config_type int8 3+
            documentation string? 3+

AlterConfigs 33 0-2 flexible 2+
  request
    resources[]
        resource_type int8
        resource_name string
        configs[]
            name string
            value string?
    validate_only bool
  response
    throttle_time_ms int32
    responses[]
        error_code int16
        error_message string?
        resource_type int8
        resource_name string

DescribeLogDirs 35 1-4 flexible 2+
  request
    topics[]?
        topic string
        partitions[] int32
  response
    throttle_time_ms int32
    error_code int16 3+
    results[]
        error_code int16
        log_dir string
        topics[]
            name string
            partitions[]
                partition_index int32
                partition_size int64
                offset_lag int64
                is_future_key bool
        total_bytes int64 4+ =-1
        usable_bytes int64 4+ =-1

CreatePartitions 37 0-3 flexible 2+
  request
    topics[]
        name string
        count int32
        assignments[]?
            broker_ids[] int32
    timeout_ms int32
    validate_only bool
  response
    throttle_time_ms int32
    results[]
        name string
        error_code int16
        error_message string?

DeleteGroups 42 0-2 flexible 2+
  request
    groups_names[] string
  response
    throttle_time_ms int32
    results[]
        group_id string
        error_code int16

IncrementalAlterConfigs 44 0-1 flexible 1+
  request
    resources[]
        resource_type int8
        resource_name string
        configs[]
            name string
            config_operation int8
            value string?
    validate_only bool
  response
    throttle_time_ms int32
    responses[]
        error_code int16
        error_message string?
        resource_type int8
        resource_name string

DescribeCluster 60 0-1 flexible 0+
  request
    include_cluster_authorized_operations bool
    endpoint_type int8 1+ =1
  response
    throttle_time_ms int32
    error_code int16
    error_message string?
    endpoint_type int8 1+ =1
    cluster_id string
    controller_id int32 =-1
    brokers[]
        broker_id int32
        host string
        port int32
        rack string?
    cluster_authorized_operations int32 =-2147483648
"""
