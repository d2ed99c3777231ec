"""Messages for the brokers and topics of a cluster and for supported API versions, in the notation of `definition`."""

DEFINITIONS = """
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
