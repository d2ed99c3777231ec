"""Messages for the settings of topics, in the notation of `definition`."""

DEFINITIONS = """
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
"""
