mark="$({{ settle }} mark "$output")" || exit 2
