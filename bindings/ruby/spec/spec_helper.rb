# frozen_string_literal: true

require "kino-uring"
require "rack"
require "timeout"
Dir[File.join(__dir__, "support/*.rb")].each { require _1 }

# The longest that any example may take.
EXAMPLE_SECONDS = 30

RSpec.configure do |config|
  config.disable_monkey_patching!
  config.order = :random
  Kernel.srand config.seed
  config.include Serving
  config.around { |example| Timeout.timeout(EXAMPLE_SECONDS) { example.run } }
end
