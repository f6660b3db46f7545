# frozen_string_literal: true

# The app that every Ruby server is measured with. It is a module, so it can be shared among
# Ractors; nothing in it captures anything or matches a regular expression. Beside its body it
# allocates the triple and the headers, which Rack wants unfrozen, and nothing else. The length is
# left to the server, as most frameworks do: all that we measure count an array body themselves.
module BenchApp
  HELLO = ["Hello World"].freeze
  TEN_KILOBYTES = ["0123456789abcdef" * 640].each(&:freeze).freeze
  SLEPT = ["slept 5 ms"].freeze
  NOT_FOUND = ["not found"].freeze

  def self.call(env)
    case env["PATH_INFO"]
    when "/plaintext" then [200, { "content-type" => "text/plain" }, HELLO]
    when "/10k" then [200, { "content-type" => "text/plain" }, TEN_KILOBYTES]
    when "/cpu" then [200, { "content-type" => "text/plain" }, [fib(20).to_s]]
    when "/io"
      sleep 0.005
      [200, { "content-type" => "text/plain" }, SLEPT]
    else [404, { "content-type" => "text/plain" }, NOT_FOUND]
    end
  end

  def self.fib(number)
    number < 2 ? number : fib(number - 1) + fib(number - 2)
  end
end

run BenchApp
