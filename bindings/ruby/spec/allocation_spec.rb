# frozen_string_literal: true

RSpec.describe "A GET without query, cookie or body" do
  # Makes two objects a request: the triple and the headers. /begin starts to count, /end tells.
  counting = <<~'RUBY'
    # frozen_string_literal: true

    module Counting
      BODY = ["Hello"].freeze

      def self.call(env)
        case env["PATH_INFO"]
        when "/begin" then Ractor.current[:begin] = objects
        when "/end" then return [200, {}, [(objects - Ractor.current[:begin]).to_s]]
        end
        [200, { "content-type" => "text/plain" }, BODY]
      end

      def self.objects = GC.stat(:total_allocated_objects)
    end
    run Counting
  RUBY

  times = 1000

  Serving::WAYS.each do |way|
    it "makes at most two objects beside the app's own: #{way.values.join(', ')}" do
      Serving::Command.run("-p", "0", "-w", "1", "-t", "1", "-m", way[:mode].to_s,
                           "--dispatch", way[:dispatch].to_s, rackup: counting) do |kino|
        Client.open(kino.port) do |client|
          paths = ["/warm"] * 10 + ["/begin"] + ["/"] * times + ["/end"]
          bodies = paths.map do |path|
            client.get(path, "Accept: */*", "User-Agent: spec", "Accept-Encoding: gzip")
            client.answer.body
          end
          expect(bodies.last.to_i.fdiv(times)).to be_between(2, 2 + 2)
        end
      end
    end
  end
end
